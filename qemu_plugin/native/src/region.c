// SPDX-License-Identifier: MIT
/*
 * Accesses to regions: masks in C, traps to Python. The reference model is pydev/registers/bank.py, and tests
 * compare the two. Every access is recorded with the value before and after it; after one that a model
 * decided, so is every config dword that changed besides.
 */
#include "engine.h"

int region_check(const struct engine *e, const struct wire_access *a)
{
	const struct bank *b = &e->region[a->region < WIRE_REGIONS ? a->region : 0];

	if (unlikely(a->region >= WIRE_REGIONS || !a->count || a->count > WIRE_DATA_MAX ||
		     a->offset > b->size || b->size - a->offset < a->count))
		return -EINVAL;
	return 0;
}

static inline bool is_trapped(const uint8_t *trap, uint32_t count)
{
	if (likely(count <= 8))
		return load_bytes(trap, count) != 0;
	for (uint32_t i = 0; i < count; i++)
		if (trap[i])
			return true;
	return false;
}

/* PCIe 6.0 5.3.1.4.1: in D3hot a function answers configuration requests only. */
static inline bool is_asleep(struct engine *e, uint32_t region)
{
	return region < WIRE_REGION_BARS && (engine_gates(e) & GATE_POWER_STATE);
}

static inline void record_access(struct engine *e, uint16_t kind, uint16_t flags, uint16_t error, uint64_t t_ns,
				 const struct wire_access *a, uint64_t value, uint64_t before, uint64_t after)
{
	recording_put(e->rec, (struct event){
		.t_ns = t_ns, .kind = kind, .function = e->function, .flags = flags, .error = error,
		.size = a->count, .region = a->region, .address = a->offset, .value = value,
		.extra = before, .aux = after,
	});
}

static int ask_python(struct engine *e, const struct wire_access *a, uint64_t t_ns, const uint8_t *data)
{
	e->request = (struct request){
		.key = a->count <= 8 ? a->offset << 8 | a->region << 4 | a->count : 0, .offset = a->offset, .region = a->region, .size = a->count, .is_write = data != NULL,
		.value = data ? load_bytes(data, a->count) : 0, .data = data,
	};
	e->pending.access = *a;
	e->pending.t_ns = t_ns;
	e->pending.before = load_bytes(e->region[a->region].image + a->offset, a->count);
	e->is_deciding = data != NULL;
	return SERVE_ACCESS;
}

int region_read(struct engine *e, const struct wire_access *a, uint8_t *out)
{
	const struct bank *b = &e->region[a->region];
	uint64_t t_ns = now_ns();

	if (unlikely(is_asleep(e, a->region))) {
		memset(out, 0xff, a->count);
		record_access(e, KIND_REGION_READ, FLAG_BLOCKED, GATE_POWER_STATE, t_ns, a,
			      load_bytes(out, a->count), 0, 0);
		return 0;
	}
	if (unlikely(is_trapped(b->trap_read + a->offset, a->count)))
		return ask_python(e, a, t_ns, NULL);
	if (likely(a->count == 4))
		memcpy(out, b->image + a->offset, 4);
	else
		memcpy(out, b->image + a->offset, a->count);
	record_access(e, KIND_REGION_READ, 0, 0, t_ns, a, load_bytes(out, a->count), 0, 0);
	return 0;
}

static inline void apply(const struct bank *b, uint64_t offset, uint32_t count, const uint8_t *data)
{
	uint8_t *image = b->image + offset;
	const uint8_t *writable = b->writable + offset, *clear = b->write_one_clear + offset;

	if (likely(count == 4)) {
		uint32_t old, new, mask, ones;

		memcpy(&old, image, 4);
		memcpy(&new, data, 4);
		memcpy(&mask, writable, 4);
		memcpy(&ones, clear, 4);
		old = ((old & ~mask) | (new & mask)) & ~(new & ones);
		memcpy(image, &old, 4);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		image[i] = (uint8_t)(((image[i] & ~writable[i]) | (data[i] & writable[i])) &
				     ~(data[i] & clear[i]));
}

int region_write(struct engine *e, const struct wire_access *a, const uint8_t *data)
{
	const struct bank *b = &e->region[a->region];
	uint64_t t_ns = now_ns(), before;

	if (unlikely(is_asleep(e, a->region))) {
		record_access(e, KIND_REGION_WRITE, FLAG_BLOCKED, GATE_POWER_STATE, t_ns, a,
			      load_bytes(data, a->count), 0, 0);
		return 0;
	}
	if (unlikely(is_trapped(b->trap_write + a->offset, a->count)))
		return ask_python(e, a, t_ns, data);
	before = load_bytes(b->image + a->offset, a->count);
	apply(b, a->offset, a->count, data);
	if (unlikely(a->region == WIRE_REGION_CONFIG))
		memcpy(e->recorded + a->offset, b->image + a->offset, a->count);
	record_access(e, KIND_REGION_WRITE, 0, 0, t_ns, a, load_bytes(data, a->count), before,
		      load_bytes(b->image + a->offset, a->count));
	return 0;
}

void region_finish_read(struct engine *e, uint64_t value)
{
	record_access(e, KIND_REGION_READ, FLAG_TRAPPED, 0, e->pending.t_ns, &e->pending.access, value, 0, 0);
}

/* The model failed: what it had changed by then shows in the next record that looks. */
void region_finish_error(struct engine *e, int error)
{
	record_access(e, e->request.is_write ? KIND_REGION_WRITE : KIND_REGION_READ, FLAG_TRAPPED,
		      (uint16_t)error, e->pending.t_ns, &e->pending.access, e->request.value, e->pending.before,
		      load_bytes(e->region[e->pending.access.region].image + e->pending.access.offset,
				 e->pending.access.count));
}

/* A reset that the write caused is recorded behind it, and what either changed behind both. */
void region_finish_write(struct engine *e)
{
	const struct wire_access *a = &e->pending.access;
	bool is_config = a->region == WIRE_REGION_CONFIG;

	record_access(e, KIND_REGION_WRITE, FLAG_TRAPPED, 0, e->pending.t_ns, a, e->request.value,
		      e->pending.before, load_bytes(e->region[a->region].image + a->offset, a->count));
	e->is_deciding = false;
	for (uint32_t i = 0; i < e->resets_noted; i++)
		recording_put(e->rec, (struct event){
			.t_ns = now_ns(), .kind = KIND_RESET, .function = e->function, .value = e->reset_noted[i],
		});
	e->resets_noted = 0;
	region_record_updates(e, is_config ? (uint32_t)a->offset : 0, is_config ? a->count : 0);
}

/* Every dword that is not as the record has it, leaving out the bytes that the access itself wrote. */
void region_record_updates(struct engine *e, uint32_t skip_offset, uint32_t skip_bytes)
{
	const struct bank *b = &e->region[WIRE_REGION_CONFIG];

	if (skip_bytes && skip_offset < b->size)
		memcpy(e->recorded + skip_offset, b->image + skip_offset, skip_bytes);
	if (!b->declared || !memcmp(e->recorded, b->image, b->declared))
		return;
	for (uint32_t offset = 0; offset + 4 <= b->declared; offset += 4) {
		uint64_t before = load_bytes(e->recorded + offset, 4), after = load_bytes(b->image + offset, 4);

		if (before != after)
			recording_put(e->rec, (struct event){
				.t_ns = now_ns(), .kind = KIND_CONFIG_UPDATE, .function = e->function, .size = 4,
				.region = WIRE_REGION_CONFIG, .address = offset, .extra = before, .aux = after,
			});
	}
	memcpy(e->recorded, b->image, b->declared);
}

int engine_region(engine *e, uint32_t region, const struct bank *bank)
{
	if (region >= WIRE_REGIONS || bank->declared > bank->size || (region == WIRE_REGION_CONFIG && bank->size > CONFIG_BYTES_MAX))
		return -EINVAL;
	e->region[region] = *bank;
	if (region == WIRE_REGION_CONFIG)
		memcpy(e->recorded, bank->image, bank->size);
	return 0;
}

int engine_pba(engine *e, uint32_t region, uint64_t offset)
{
	uint64_t bytes = (e->irq[WIRE_IRQ_MSIX].count + 7) / 8;

	if (region >= WIRE_REGIONS || offset > e->region[region].size || e->region[region].size - offset < bytes)
		return -EINVAL;
	e->pba = e->region[region].image + offset;
	return 0;
}
