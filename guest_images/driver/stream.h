/* SPDX-License-Identifier: GPL-2.0-only */
/* The stream endpoint's driver: what its parts share. */
#ifndef LUSCOPE_STREAM_H
#define LUSCOPE_STREAM_H

#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "luscope_stream.h"
#include "stream_regs.h"

#define STREAM_VECTORS		2
#define STREAM_MAX_FRAMES	(LUSCOPE_STREAM_MAX_PAGES + 1)	/* with the mailbox page */

/**
 * struct stream_ring - Memory of one stream: the ring's pages, then the mailbox page.
 * @pages:  Pages of the ring; 0 if there is none.
 * @page:   All of them; NULL for one that the previous kernel did not hand over.
 * @iova:   What the device calls them.
 * @mapped: Which of them are mapped for DMA.
 * @kho:    Which of them KHO has been told to preserve.
 */
struct stream_ring {
	unsigned int pages;
	struct page *page[STREAM_MAX_FRAMES];
	dma_addr_t iova[STREAM_MAX_FRAMES];
	DECLARE_BITMAP(mapped, STREAM_MAX_FRAMES);
	DECLARE_BITMAP(kho, STREAM_MAX_FRAMES);
};

/**
 * struct stream_counts - What the interrupt handlers have seen.
 * @lock:      Protects the rest.
 * @seen:      Interrupts, by vector.
 * @slots:     Slots that reached memory, as of the last interrupt.
 * @caught_up: How many of @slots only the catch-up interrupt has told of.
 */
struct stream_counts {
	spinlock_t lock;	/* protects the rest; taken by the interrupt handlers */
	u64 seen[STREAM_VECTORS];
	u64 slots;
	u64 caught_up;
};

/**
 * struct luscope_stream - One endpoint.
 * @kref:         The driver's, while bound, and one of each file.
 * @list:         In the list of all; see luscope_find().
 * @lock:         Protects all below but @counts.
 * @misc:         The character device.
 * @pdev:         The function; NULL when it is gone.
 * @bar:          BAR 0.
 * @users:        Open files.
 * @program:      What the engine was started with last.
 * @is_preserved: Between preserve and unpreserve: the ring stays what it is.
 * @is_frozen:    Between freeze and unfreeze: nothing of the device is touched. Read by the
 *                interrupt handlers without @lock.
 * @is_incoming:  Came from the previous kernel, and is not finished.
 * @is_retrieved: Came from the previous kernel, and so did all of its ring.
 * @has_irqs:     MSI-X is set up.
 * @error:        Why retrieve failed, or setting up MSI-X; negative errno.
 * @refused_page: See struct luscope_stream_status.
 * @ring:         Where the engine writes.
 * @counts:       What came of it.
 */
struct luscope_stream {
	struct kref kref;
	struct list_head list;
	struct mutex lock;	/* protects what follows, but for counts */
	struct miscdevice misc;
	struct pci_dev *pdev;
	void __iomem *bar;
	unsigned int users;
	struct luscope_stream_start program;
	bool is_preserved;
	bool is_frozen;
	bool is_incoming;
	bool is_retrieved;
	bool has_irqs;
	int error;
	int refused_page;
	struct stream_ring ring;
	struct stream_counts counts;
};

/* stream_main.c */
struct luscope_stream *luscope_find(u32 domain, u16 bdf);
struct luscope_stream *luscope_get(struct luscope_stream *stream);
void luscope_put(struct luscope_stream *stream);
bool luscope_is_last_to_freeze(const struct luscope_stream *stream);

/* stream_file.c */
extern const struct file_operations luscope_fops;
struct file *luscope_new_file(struct luscope_stream *stream);

/* stream_engine.c */
bool luscope_is_running(struct luscope_stream *stream);
int luscope_start(struct luscope_stream *stream, const struct luscope_stream_start *program);
int luscope_stop(struct luscope_stream *stream);
void luscope_read_counters(struct luscope_stream *stream, struct luscope_stream_status *status);
void luscope_doorbell(struct luscope_stream *stream, unsigned int vector);
int luscope_irqs_create(struct luscope_stream *stream);
void luscope_irqs_destroy(struct luscope_stream *stream);
void luscope_irqs_quiesce(struct luscope_stream *stream);

/* stream_ring.c */
int luscope_ring_create(struct luscope_stream *stream, unsigned int pages);
void luscope_ring_destroy(struct luscope_stream *stream);
int luscope_ring_preserve(struct luscope_stream *stream);
void luscope_ring_unpreserve(struct luscope_stream *stream);
int luscope_ring_restore(struct luscope_stream *stream, unsigned int pages, const u64 *frames);
void luscope_ring_discard(unsigned int pages, const u64 *frames);

/* stream_liveupdate.c */
int luscope_liveupdate_init(void);

#endif
