// SPDX-License-Identifier: GPL-2.0-only
/* The stream endpoint's registers and interrupts. */
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/mm.h>

#include "stream.h"

#define STOP_POLL_US	100
#define STOP_TIMEOUT_US	(2 * USEC_PER_SEC)

static_assert(LUSCOPE_STREAM_MAX_PAGES == STREAM_PAGE_TABLE_COUNT);

bool luscope_is_running(struct luscope_stream *stream)
{
	return readl(stream->bar + STREAM_STATUS) & STREAM_STATUS_RUNNING;
}

/* The engine reads its programming when it is started, and not again. */
static void stream_write_program(struct luscope_stream *stream)
{
	const struct luscope_stream_start *program = &stream->program;
	const struct stream_ring *ring = &stream->ring;
	unsigned int i;

	for (i = 0; i < ring->pages; i++)
		writeq(ring->iova[i], stream->bar + STREAM_PAGE_TABLE(i));
	writel(ring->pages, stream->bar + STREAM_PAGE_COUNT);
	writeq(ring->iova[ring->pages], stream->bar + STREAM_MAILBOX);
	writel(program->period_ns, stream->bar + STREAM_PERIOD_NS);
	writel(program->interrupt_every, stream->bar + STREAM_INTERRUPT_EVERY);
	writel(LUSCOPE_STREAM_VECTOR, stream->bar + STREAM_VECTOR);
	writel(program->generation, stream->bar + STREAM_GENERATION);
}

int luscope_start(struct luscope_stream *stream, const struct luscope_stream_start *program)
{
	u32 control = STREAM_CONTROL_RUN;

	if (!stream->ring.pages)
		return -ENXIO;
	if (luscope_is_running(stream))
		return -EBUSY;

	stream->program = *program;
	if (program->interrupt_every)
		control |= STREAM_CONTROL_INTERRUPT_ENABLE;
	stream_write_program(stream);
	writel(control, stream->bar + STREAM_CONTROL);

	return readl(stream->bar + STREAM_STATUS) & STREAM_STATUS_ERROR ? -EIO : 0;
}

int luscope_stop(struct luscope_stream *stream)
{
	u32 status;

	writel(0, stream->bar + STREAM_CONTROL);
	return readl_poll_timeout(stream->bar + STREAM_STATUS, status,
				  !(status & STREAM_STATUS_RUNNING),
				  STOP_POLL_US, STOP_TIMEOUT_US);
}

void luscope_read_counters(struct luscope_stream *stream, struct luscope_stream_status *status)
{
	struct stream_counts *counts = &stream->counts;

	status->sequence = readq(stream->bar + STREAM_SEQUENCE);
	status->written = readq(stream->bar + STREAM_WRITTEN);
	status->blocked = readq(stream->bar + STREAM_BLOCKED);
	status->interrupts = readq(stream->bar + STREAM_INTERRUPTS);
	status->mailbox_value = readq(stream->bar + STREAM_MAILBOX_VALUE);

	guard(spinlock_irqsave)(&counts->lock);
	status->interrupts_seen = counts->seen[LUSCOPE_STREAM_VECTOR];
	status->catch_up_seen = counts->seen[LUSCOPE_STREAM_CATCH_UP_VECTOR];
	status->slots_seen = counts->slots;
	status->slots_caught_up = counts->caught_up;
}

void luscope_doorbell(struct luscope_stream *stream, unsigned int vector)
{
	writel(vector, stream->bar + STREAM_DOORBELL);
}

/*
 * An interrupt only says that there may be work: how much of it there is the device
 * knows. What interrupts lost during a live update would have told, the next one tells.
 */
static void stream_interrupt(struct luscope_stream *stream, unsigned int vector)
{
	struct stream_counts *counts = &stream->counts;
	u64 written;

	/* The device belongs to the next kernel. */
	if (READ_ONCE(stream->is_frozen))
		return;

	guard(spinlock_irqsave)(&counts->lock);
	counts->seen[vector]++;
	written = readq(stream->bar + STREAM_WRITTEN);
	if (vector == LUSCOPE_STREAM_CATCH_UP_VECTOR)
		counts->caught_up += written - counts->slots;
	counts->slots = written;
}

static irqreturn_t stream_slots_interrupt(int irq, void *data)
{
	stream_interrupt(data, LUSCOPE_STREAM_VECTOR);
	return IRQ_HANDLED;
}

static irqreturn_t stream_catch_up_interrupt(int irq, void *data)
{
	stream_interrupt(data, LUSCOPE_STREAM_CATCH_UP_VECTOR);
	return IRQ_HANDLED;
}

int luscope_irqs_create(struct luscope_stream *stream)
{
	static const irq_handler_t handlers[STREAM_VECTORS] = {
		[LUSCOPE_STREAM_VECTOR] = stream_slots_interrupt,
		[LUSCOPE_STREAM_CATCH_UP_VECTOR] = stream_catch_up_interrupt,
	};
	struct pci_dev *pdev = stream->pdev;
	int i, ret;

	ret = pci_alloc_irq_vectors(pdev, STREAM_VECTORS, STREAM_VECTORS, PCI_IRQ_MSIX);
	if (ret < 0)
		return ret;

	for (i = 0; i < STREAM_VECTORS; i++) {
		ret = request_irq(pci_irq_vector(pdev, i), handlers[i], 0, stream->misc.name,
				  stream);
		if (ret)
			goto err_free;
	}
	stream->has_irqs = true;
	return 0;

err_free:
	while (i--)
		free_irq(pci_irq_vector(pdev, i), stream);
	pci_free_irq_vectors(pdev);
	return ret;
}

void luscope_irqs_destroy(struct luscope_stream *stream)
{
	int i;

	if (!stream->has_irqs)
		return;

	for (i = 0; i < STREAM_VECTORS; i++)
		free_irq(pci_irq_vector(stream->pdev, i), stream);
	pci_free_irq_vectors(stream->pdev);
	stream->has_irqs = false;
}

/* Wait for handlers that have not seen is_frozen. The device is not told anything. */
void luscope_irqs_quiesce(struct luscope_stream *stream)
{
	int i;

	for (i = 0; stream->has_irqs && i < STREAM_VECTORS; i++)
		synchronize_irq(pci_irq_vector(stream->pdev, i));
}
