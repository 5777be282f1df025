// SPDX-License-Identifier: MIT
/*
 * Free-running DMA. Sequence n is due at start + (n - first) * period; what is late is caught up without
 * skipping, so that a hole in the sequence is never the bench's doing. A transaction that is refused uses its
 * number up. Each is judged, stamped, written and recorded under the engine's lock.
 */
#include "engine.h"

#include <stdlib.h>

#define PAYLOAD_BYTES 64
#define SEQUENCE_FACTOR 0x9e3779b97f4a7c15ull	/* pydev/endpoints: word 4 of the payload */
#define MAILBOX_EVERY 64
#define PAGES_MAX (1u << 20)
#define BATCH_MAX 32				/* transactions in arrear done under one lock: about a microsecond */
#define SPIN_NS 3000				/* a shorter sleep costs more than it saves */
#define SPIN_PERIOD_NS 20000			/* of shorter periods a sleep would miss several */

struct stream {
	struct engine *e;		/* borrowed */
	struct stream_program program;
	uint64_t *pages;		/* owned; what program.pages points to */
	uint32_t slots_per_page;
	uint64_t slots;
	uint64_t slot;			/* of the next transaction, counted along: a division costs more */
	uint32_t page, slot_in_page;
	uint64_t start_ns;
	uint32_t is_stopped;		/* futex word; written under the engine's lock */
	uint32_t is_started;
	struct stream_status status;	/* under the engine's lock */
};

int stream_create(engine *e, const struct stream_program *program, stream **out)
{
	const struct stream_program *p = program;
	struct stream *s;

	if (!p->page_count || p->page_count > PAGES_MAX || !p->period_ns || !p->first_sequence ||
	    p->slot_bytes < PAYLOAD_BYTES || p->slot_bytes % 8 || p->page_bytes < p->slot_bytes)
		return -EINVAL;
	for (uint32_t i = 0; i < p->page_count; i++)
		if (p->pages[i] % 8)
			return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->pages = malloc(p->page_count * sizeof(*s->pages));
	if (!s->pages) {
		free(s);
		return -ENOMEM;
	}
	memcpy(s->pages, p->pages, p->page_count * sizeof(*s->pages));
	s->e = e;
	s->program = *p;
	s->program.pages = s->pages;
	s->slots_per_page = p->page_bytes / p->slot_bytes;
	s->slots = (uint64_t)p->page_count * s->slots_per_page;
	s->slot = (p->first_sequence - 1) % s->slots;
	s->page = (uint32_t)(s->slot / s->slots_per_page);
	s->slot_in_page = (uint32_t)(s->slot % s->slots_per_page);
	s->status.next_sequence = p->first_sequence;
	*out = s;
	return 0;
}

void stream_destroy(stream *s)
{
	free(s->pages);
	free(s);
}

static void record_engine(struct stream *s, uint64_t is_started)
{
	recording_put(s->e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_ENGINE, .function = s->e->function, .size = (uint32_t)s->slots,
		.region = s->program.engine, .address = s->pages[0], .value = is_started,
		.extra = s->program.period_ns, .aux = s->status.next_sequence,
	});
}

int stream_start(stream *s)
{
	if (s->is_started)
		return -EBUSY;
	pthread_mutex_lock(&s->e->lock);
	record_engine(s, 1);
	for (uint32_t i = 0; i < s->program.page_count; i++)
		recording_put(s->e->rec, (struct event){
			.t_ns = now_ns(), .kind = KIND_ENGINE_PAGE, .function = s->e->function,
			.size = s->program.page_bytes, .region = s->program.engine, .address = s->pages[i],
			.value = i,
		});
	s->start_ns = now_ns();
	s->is_started = 1;
	pthread_mutex_unlock(&s->e->lock);
	return 0;
}

void stream_stop(stream *s)
{
	pthread_mutex_lock(&s->e->lock);
	if (s->is_started && !s->is_stopped)
		record_engine(s, 0);
	__atomic_store_n(&s->is_stopped, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&s->e->lock);
	os_wake(&s->is_stopped);
}

void stream_status(stream *s, struct stream_status *out)
{
	pthread_mutex_lock(&s->e->lock);
	*out = s->status;
	pthread_mutex_unlock(&s->e->lock);
}

/* All but the last word, then the last word: a slot whose sequence is new is whole. */
static inline int store(struct engine *e, uint64_t iova, const uint64_t *words)
{
	uint8_t *hva = dma_hva(&e->dma, iova, PAYLOAD_BYTES, DMA_WRITEABLE);
	int err;

	if (likely(hva)) {
		memcpy(hva, words, PAYLOAD_BYTES - 8);
		__atomic_store_n((uint64_t *)(hva + PAYLOAD_BYTES - 8), words[7], __ATOMIC_RELEASE);
		return 0;
	}
	err = dma_write(&e->dma, iova, (const uint8_t *)words, PAYLOAD_BYTES - 8);
	return err ? err : dma_write(&e->dma, iova + PAYLOAD_BYTES - 8, (const uint8_t *)&words[7], 8);
}

static inline void next_slot(struct stream *s)
{
	s->slot++;
	if (likely(++s->slot_in_page < s->slots_per_page))
		return;
	s->slot_in_page = 0;
	if (++s->page == s->program.page_count) {
		s->page = 0;
		s->slot = 0;
	}
}

/* Returns when it took place. */
static inline uint64_t write_slot_locked(struct stream *s, uint64_t sequence)
{
	struct engine *e = s->e;
	uint64_t iova = s->pages[s->page] + (uint64_t)s->program.slot_bytes * s->slot_in_page;
	uint64_t generation = s->program.generation | (uint64_t)s->program.engine << 32;
	uint64_t t_ns = now_ns();
	uint64_t due_ns = s->start_ns + (sequence - s->program.first_sequence) * s->program.period_ns;
	uint64_t words[8] = {
		t_ns, generation, s->slot, iova, sequence * SEQUENCE_FACTOR, ~sequence, 0, sequence,
	};
	uint32_t reasons = engine_gates(e) & GATE_DMA;
	uint16_t flags = FLAG_STREAM;

	words[6] = words[0] ^ words[1] ^ words[2] ^ words[3] ^ words[4] ^ words[5];
	if (unlikely(reasons))
		flags |= FLAG_BLOCKED;
	else if (unlikely(store(e, iova, words)))
		flags |= FLAG_BLOCKED | FLAG_FAULT;
	recording_put(e->rec, (struct event){
		.t_ns = t_ns, .kind = KIND_DMA_WRITE, .function = e->function, .flags = flags,
		.error = (uint16_t)reasons, .size = PAYLOAD_BYTES, .address = iova, .value = sequence,
		.extra = generation, .aux = words[6],
	});
	if (flags & FLAG_BLOCKED)
		s->status.blocked++;
	else
		s->status.written++;
	s->status.next_sequence = sequence + 1;
	if (t_ns > due_ns && t_ns - due_ns > s->status.lateness_max_ns)
		s->status.lateness_max_ns = t_ns - due_ns;
	next_slot(s);
	return t_ns;
}

static void read_mailbox_locked(struct stream *s)
{
	struct engine *e = s->e;
	uint64_t t_ns = now_ns(), value = 0;
	uint32_t reasons = engine_gates(e) & GATE_DMA;
	uint16_t flags = FLAG_STREAM;

	if (reasons)
		flags |= FLAG_BLOCKED;
	else if (dma_read(&e->dma, s->program.mailbox, (uint8_t *)&value, sizeof(value)))
		flags |= FLAG_BLOCKED | FLAG_FAULT;
	else
		s->status.mailbox_value = value;
	recording_put(e->rec, (struct event){
		.t_ns = t_ns, .kind = KIND_DMA_READ, .function = e->function, .flags = flags,
		.error = (uint16_t)reasons, .size = sizeof(value), .address = s->program.mailbox, .value = value,
		.extra = s->program.generation | (uint64_t)s->program.engine << 32,
	});
}

static inline uint64_t transact_locked(struct stream *s)
{
	uint64_t sequence = s->status.next_sequence;
	uint32_t every = s->program.interrupt_every;
	uint64_t t_ns = write_slot_locked(s, sequence);

	if (s->program.has_mailbox && sequence % (every ? every : MAILBOX_EVERY) == 0)
		read_mailbox_locked(s);
	if (every && sequence % every == 0 && interrupt_raise_locked(s->e, s->program.vector) >= 0)
		s->status.interrupts++;
	return t_ns;
}

static void wait_until_due(uint32_t *is_stopped, uint64_t due_ns, uint64_t period_ns)
{
	uint64_t spin_ns = period_ns < SPIN_PERIOD_NS ? SPIN_PERIOD_NS : SPIN_NS, now;

	while ((now = now_ns()) < due_ns && !__atomic_load_n(is_stopped, __ATOMIC_ACQUIRE)) {
		if (due_ns - now > spin_ns)
			os_wait_until(is_stopped, 0, due_ns);
		else
			__asm__ volatile("" ::: "memory");
	}
}

int stream_run(stream *s)
{
	uint64_t due_ns = s->start_ns;

	if (!s->is_started)
		return -EINVAL;
	for (;;) {
		wait_until_due(&s->is_stopped, due_ns, s->program.period_ns);
		pthread_mutex_lock(&s->e->lock);
		if (s->is_stopped) {
			pthread_mutex_unlock(&s->e->lock);
			return 0;
		}
		for (uint32_t n = 0; n < BATCH_MAX; n++) {
			uint64_t t_ns = transact_locked(s);

			due_ns += s->program.period_ns;
			if (t_ns < due_ns)
				break;
		}
		pthread_mutex_unlock(&s->e->lock);
	}
}

/* ---- the reference stream: the same waiting, and nothing that a guest can touch ---- */

struct reference {
	struct recording *rec;		/* borrowed */
	uint64_t period_ns;
	uint32_t is_stopped;
};

int reference_create(recording *rec, uint64_t period_ns, reference **out)
{
	struct reference *r = period_ns ? calloc(1, sizeof(*r)) : NULL;

	if (!r)
		return period_ns ? -ENOMEM : -EINVAL;
	r->rec = rec;
	r->period_ns = period_ns;
	*out = r;
	return 0;
}

void reference_destroy(reference *r)
{
	free(r);
}

int reference_run(reference *r)
{
	uint64_t due_ns = now_ns();

	for (uint64_t number = 1; ; number++, due_ns += r->period_ns) {
		wait_until_due(&r->is_stopped, due_ns, r->period_ns);
		if (__atomic_load_n(&r->is_stopped, __ATOMIC_ACQUIRE))
			return 0;
		recording_put(r->rec, (struct event){
			.t_ns = now_ns(), .kind = KIND_REFERENCE, .function = NO_FUNCTION, .value = number,
			.extra = due_ns,
		});
	}
}

void reference_stop(reference *r)
{
	__atomic_store_n(&r->is_stopped, 1, __ATOMIC_RELEASE);
	os_wake(&r->is_stopped);
}
