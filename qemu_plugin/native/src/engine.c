// SPDX-License-Identifier: MIT
/* Life of an engine and of its connections; the gate; DMA by models. */
#include "engine.h"

#include <stdlib.h>

static int irq_init(struct irq *irq, uint32_t count)
{
	irq->count = count;
	irq->eventfd = count ? malloc(count * sizeof(int)) : NULL;
	if (count && !irq->eventfd)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		irq->eventfd[i] = -1;
	return 0;
}

int engine_create(recording *rec, uint16_t function, uint32_t msix_vectors, uint32_t intx_lines, engine **out)
{
	const uint32_t counts[WIRE_IRQS] = {
		[WIRE_IRQ_INTX] = intx_lines, [WIRE_IRQ_MSIX] = msix_vectors,
		[WIRE_IRQ_ERR] = 1, [WIRE_IRQ_REQ] = 1,
	};
	size_t bytes = (sizeof(struct engine) + 63) / 64 * 64;
	pthread_mutexattr_t attr;
	struct engine *e;
	int err = 0;

	if (msix_vectors > MSIX_VECTORS_MAX || intx_lines > 1)
		return -EINVAL;
	e = aligned_alloc(64, bytes);
	if (!e)
		return -ENOMEM;
	memset(e, 0, bytes);
	e->rec = rec;
	e->function = function;
	e->fd = -1;
	atomic_store(&e->gate, GATE_NO_CLIENT);
	for (uint32_t i = 0; i < WIRE_IRQS && !err; i++)
		err = irq_init(&e->irq[i], counts[i]);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	if (!err)
		err = -pthread_mutex_init(&e->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	if (err) {
		for (uint32_t i = 0; i < WIRE_IRQS; i++)
			free(e->irq[i].eventfd);
		free(e);
		return err;
	}
	*out = e;
	return 0;
}

void engine_destroy(engine *e)
{
	interrupt_disable_all_locked(e);
	connection_drop_fds(e);
	dma_table_deinit(&e->dma);
	for (uint32_t i = 0; i < WIRE_IRQS; i++)
		free(e->irq[i].eventfd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

struct request *engine_request(engine *e)
{
	return &e->request;
}

static void record_client(struct engine *e, uint64_t is_connected, int error)
{
	recording_put(e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_CLIENT, .function = e->function,
		.error = (uint16_t)(error < 0 ? -error : error), .value = is_connected,
	});
}

int engine_open(engine *e, int fd)
{
	if (e->fd >= 0)
		return -EBUSY;
	e->fd = fd;
	e->have = e->pos = 0;
	e->is_negotiated = false;
	pthread_mutex_lock(&e->lock);
	record_client(e, 1, 0);
	gate_change_locked(e, 0, GATE_NO_CLIENT);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

/* The device's state stays; all that the client lent is given back. */
void engine_close(engine *e, int error)
{
	if (e->fd < 0)
		return;
	pthread_mutex_lock(&e->lock);
	gate_change_locked(e, GATE_NO_CLIENT, 0);
	dma_table_clear(&e->dma);
	interrupt_disable_all_locked(e);
	record_client(e, 0, error);
	pthread_mutex_unlock(&e->lock);
	dma_table_reap(&e->dma);
	connection_drop_fds(e);
	e->pending.multi = NULL;
	e->is_deciding = false;
	e->fd = -1;
}

/* ---- gate ---- */

void gate_change_locked(struct engine *e, uint32_t set, uint32_t clear)
{
	uint32_t before = engine_gates(e), after = (before & ~clear) | set;

	if (before == after)
		return;
	recording_put(e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_GATE, .function = e->function, .extra = before, .aux = after,
	});
	atomic_store_explicit(&e->gate, after, memory_order_relaxed);
	interrupt_deliver_pending_locked(e);
}

void engine_set_gate(engine *e, uint32_t gate)
{
	pthread_mutex_lock(&e->lock);
	gate_change_locked(e, gate & ~(uint32_t)GATE_NO_CLIENT, ~gate & ~(uint32_t)GATE_NO_CLIENT);
	pthread_mutex_unlock(&e->lock);
}

void engine_note_reset(engine *e, uint32_t kind)
{
	if (e->is_deciding) {
		if (e->resets_noted < RESETS_NOTED_MAX)
			e->reset_noted[e->resets_noted++] = kind;
		return;
	}
	recording_put(e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_RESET, .function = e->function, .value = kind,
	});
}

/* ---- DMA by models ---- */

#define DIGEST_BYTES 64

/*
 * Tells data apart in the record, at the price of a cache line and not of the whole: 64-bit FNV-1a by words of
 * the first and the last 64 bytes.
 */
static uint64_t digest(const uint8_t *data, uint32_t size)
{
	uint32_t ends = size < DIGEST_BYTES ? size : DIGEST_BYTES;
	uint64_t hash = 0xcbf29ce484222325ull;

	for (uint32_t i = 0; i < ends; i += 8) {
		hash = (hash ^ load_bytes(data + i, ends - i)) * 0x100000001b3ull;
		hash = (hash ^ load_bytes(data + size - ends + i, ends - i)) * 0x100000001b3ull;
	}
	return hash;
}

static int dma(struct engine *e, uint64_t iova, uint8_t *data, uint32_t size, bool is_write)
{
	uint16_t flags = 0, reasons;
	uint64_t hash = is_write ? digest(data, size) : 0;
	uint64_t t_ns;
	int err = 0;

	pthread_mutex_lock(&e->lock);
	t_ns = now_ns();
	reasons = (uint16_t)(engine_gates(e) & GATE_DMA);
	if (reasons)
		err = -EACCES;
	else
		err = is_write ? dma_write(&e->dma, iova, data, size) : dma_read(&e->dma, iova, data, size);
	if (err)
		flags = reasons ? FLAG_BLOCKED : FLAG_BLOCKED | FLAG_FAULT;
	else if (!is_write)
		hash = digest(data, size);
	recording_put(e->rec, (struct event){
		.t_ns = t_ns, .kind = is_write ? KIND_DMA_WRITE : KIND_DMA_READ, .function = e->function,
		.flags = flags, .error = reasons, .size = size, .address = iova,
		.value = err && !is_write ? 0 : load_bytes(data, size), .aux = hash,
	});
	pthread_mutex_unlock(&e->lock);
	return err;
}

int engine_dma_read(engine *e, uint64_t iova, uint8_t *data, uint32_t size)
{
	return dma(e, iova, data, size, false);
}

int engine_dma_write(engine *e, uint64_t iova, const uint8_t *data, uint32_t size)
{
	return dma(e, iova, (uint8_t *)(uintptr_t)data, size, true);
}

void engine_counts(engine *e, struct engine_counts *out)
{
	pthread_mutex_lock(&e->lock);
	*out = (struct engine_counts){
		.ranges = e->dma.ranges, .files = e->dma.files, .eventfds = interrupt_eventfds(e),
		.gate = engine_gates(e), .interrupts = e->interrupts,
	};
	pthread_mutex_unlock(&e->lock);
}
