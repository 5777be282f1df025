// SPDX-License-Identifier: MIT
/* MSI-X: who may be signalled, what is pending instead, and what SET_IRQS sets up. */
#include "engine.h"

#include <fcntl.h>
#include <stdlib.h>

/* In the image that the guest reads: PCIe 6.0 7.7.2.7, one bit for each vector. */
static bool is_pending(const struct engine *e, uint32_t vector)
{
	return e->pba && (__atomic_load_n(&e->pba[vector / 8], __ATOMIC_RELAXED) >> (vector % 8) & 1);
}

static void pending_set(struct engine *e, uint32_t vector)
{
	if (e->pba)
		__atomic_fetch_or(&e->pba[vector / 8], (uint8_t)(1u << (vector % 8)), __ATOMIC_RELAXED);
}

static void pending_clear(struct engine *e, uint32_t vector)
{
	if (e->pba)
		__atomic_fetch_and(&e->pba[vector / 8], (uint8_t)~(1u << (vector % 8)), __ATOMIC_RELAXED);
}

static void record_interrupt(struct engine *e, uint32_t vector, uint16_t flags, uint16_t error)
{
	recording_put(e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_INTERRUPT, .function = e->function, .flags = flags,
		.error = error, .region = WIRE_IRQ_MSIX, .address = vector, .value = e->interrupts,
	});
}

/* EAGAIN is a counter at its limit: the client has been told often enough. */
static void signal_eventfd(int fd)
{
	static const uint64_t one = 1;

	os_call(SYS_write, fd, (long)&one, sizeof(one), 0, 0, 0);
}

int interrupt_raise_locked(struct engine *e, uint32_t vector)
{
	struct irq *msix = &e->irq[WIRE_IRQ_MSIX];
	uint32_t gates = engine_gates(e);

	if (vector >= msix->count)
		return -EINVAL;
	e->interrupts++;
	if (gates & GATE_INTERRUPT) {
		record_interrupt(e, vector, FLAG_BLOCKED, (uint16_t)(gates & GATE_INTERRUPT));
		return -EACCES;
	}
	if ((gates & GATE_FUNCTION_MASKED) || msix->eventfd[vector] < 0) {
		pending_set(e, vector);
		record_interrupt(e, vector, FLAG_PENDING, (uint16_t)(gates & GATE_FUNCTION_MASKED));
		return 1;
	}
	record_interrupt(e, vector, 0, 0);
	signal_eventfd(msix->eventfd[vector]);
	return 0;
}

void interrupt_deliver_pending_locked(struct engine *e)
{
	struct irq *msix = &e->irq[WIRE_IRQ_MSIX];

	if (!e->pba || (engine_gates(e) & (GATE_INTERRUPT | GATE_FUNCTION_MASKED)))
		return;
	for (uint32_t vector = 0; vector < msix->count; vector++) {
		if (msix->eventfd[vector] < 0 || !is_pending(e, vector))
			continue;
		pending_clear(e, vector);
		record_interrupt(e, vector, 0, 0);
		signal_eventfd(msix->eventfd[vector]);
	}
}

int engine_raise(engine *e, uint32_t vector)
{
	int result;

	pthread_mutex_lock(&e->lock);
	result = interrupt_raise_locked(e, vector);
	pthread_mutex_unlock(&e->lock);
	return result;
}

/* ---- SET_IRQS ---- */

static void eventfd_replace(struct irq *irq, uint32_t i, int fd)
{
	if (irq->eventfd[i] >= 0)
		close(irq->eventfd[i]);
	irq->eventfd[i] = fd;
}

void interrupt_disable_all_locked(struct engine *e)
{
	for (uint32_t index = 0; index < WIRE_IRQS; index++)
		for (uint32_t i = 0; i < e->irq[index].count; i++)
			eventfd_replace(&e->irq[index], i, -1);
}

uint32_t interrupt_eventfds(const struct engine *e)
{
	uint32_t count = 0;

	for (uint32_t index = 0; index < WIRE_IRQS; index++)
		for (uint32_t i = 0; i < e->irq[index].count; i++)
			count += e->irq[index].eventfd[i] >= 0;
	return count;
}

static int setup_check(const struct engine *e, const struct wire_set_irqs *s, uint32_t bytes, uint32_t fd_count)
{
	uint32_t data = s->flags & WIRE_SET_DATA_MASK, action = s->flags & WIRE_SET_ACTIONS, extra = 0;

	if (s->flags & ~(uint32_t)(WIRE_SET_DATA_MASK | WIRE_SET_ACTIONS))
		return -EINVAL;
	/* VFIOU 'DEVICE_SET_IRQS': the flags are mutually exclusive for both sets. */
	if (__builtin_popcount(data) != 1 || __builtin_popcount(action) != 1)
		return -EINVAL;
	if (s->index >= WIRE_IRQS || s->start > e->irq[s->index].count ||
	    s->count > e->irq[s->index].count - s->start)
		return -EINVAL;
	if (data == WIRE_SET_DATA_BOOL)
		extra = s->count;
	if (s->argsz < sizeof(*s) + extra || bytes < sizeof(*s) + extra)
		return -EINVAL;
	if (data == WIRE_SET_DATA_EVENTFD)
		/* QEMU 11.1 vfio_user_device_io_set_irqs: a run of vectors has a file each, or none at all. */
		return fd_count && fd_count != s->count ? -EINVAL : s->count ? 0 : -EINVAL;
	if (fd_count)
		return -EINVAL;
	/* A count of 0 disables, which means the trigger alone. */
	if (!s->count && (data != WIRE_SET_DATA_NONE || action != WIRE_SET_ACTION_TRIGGER || s->start))
		return -EINVAL;
	return 0;
}

static void assign(struct engine *e, const struct wire_set_irqs *s, int *fds, uint32_t fd_count)
{
	for (uint32_t i = 0; i < s->count; i++) {
		int fd = -1;

		if (fd_count) {
			fd = fds[i];
			fds[i] = -1;
			/* A file of the client's must not be able to make this side wait. */
			fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		}
		eventfd_replace(&e->irq[s->index], s->start + i, fd);
	}
	if (s->index == WIRE_IRQ_MSIX)
		interrupt_deliver_pending_locked(e);
}

/* VFIOU 'DEVICE_SET_IRQS' 5.: the client tests its own wiring; no gate applies and no device interrupts. */
static void trigger(struct engine *e, const struct wire_set_irqs *s, const uint8_t *wanted)
{
	for (uint32_t i = 0; i < s->count; i++) {
		int fd = e->irq[s->index].eventfd[s->start + i];

		if (fd >= 0 && (!wanted || wanted[i]))
			signal_eventfd(fd);
	}
}

int interrupt_setup(struct engine *e, const uint8_t *payload, uint32_t bytes, int *fds, uint32_t fd_count)
{
	struct wire_set_irqs s;
	uint32_t data;
	int err;

	if (bytes < sizeof(s))
		return -EINVAL;
	memcpy(&s, payload, sizeof(s));
	err = setup_check(e, &s, bytes, fd_count);
	if (err)
		return err;
	data = s.flags & WIRE_SET_DATA_MASK;
	if (!(s.flags & WIRE_SET_ACTION_TRIGGER)) {
		/* Masking is INTx's alone, and INTx is never raised: nothing to hold back. */
		if (s.index != WIRE_IRQ_INTX || data == WIRE_SET_DATA_EVENTFD)
			return -EINVAL;
	}
	pthread_mutex_lock(&e->lock);
	recording_put(e->rec, (struct event){
		.t_ns = now_ns(), .kind = KIND_IRQ_SETUP, .function = e->function, .size = s.count,
		.region = s.index, .address = s.start, .value = s.flags, .extra = fd_count,
	});
	if (s.flags & WIRE_SET_ACTION_TRIGGER) {
		if (data == WIRE_SET_DATA_EVENTFD)
			assign(e, &s, fds, fd_count);
		else if (s.count)
			trigger(e, &s, data == WIRE_SET_DATA_BOOL ? payload + sizeof(s) : NULL);
		else
			for (uint32_t i = 0; i < e->irq[s.index].count; i++)
				eventfd_replace(&e->irq[s.index], i, -1);
	}
	pthread_mutex_unlock(&e->lock);
	return 0;
}
