// SPDX-License-Identifier: GPL-2.0-only
/* Memory of a stream: allocated page by page, preserved page by page, and restored so. */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/mm.h>
#include <linux/pci_liveupdate.h>
#include <linux/sort.h>

#include "stream.h"

static int stream_ring_map(struct luscope_stream *stream, unsigned int index)
{
	struct stream_ring *ring = &stream->ring;
	struct device *dev = &stream->pdev->dev;

	ring->iova[index] = dma_map_page(dev, ring->page[index], 0, PAGE_SIZE, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, ring->iova[index]))
		return -ENOMEM;
	__set_bit(index, ring->mapped);
	return 0;
}

static int compare_frames(const void *a, const void *b)
{
	unsigned long left = page_to_pfn(*(struct page * const *)a);
	unsigned long right = page_to_pfn(*(struct page * const *)b);

	return left < right ? -1 : left > right;
}

/* Rising frames make a short report, and nothing else depends on it. */
static void stream_ring_sort(struct stream_ring *ring)
{
	sort(ring->page, ring->pages + 1, sizeof(ring->page[0]), compare_frames, NULL);
}

int luscope_ring_create(struct luscope_stream *stream, unsigned int pages)
{
	struct stream_ring *ring = &stream->ring;
	unsigned int i;
	int ret;

	luscope_ring_destroy(stream);
	stream->error = 0;
	stream->refused_page = LUSCOPE_STREAM_NO_PAGE;
	ring->pages = pages;
	for (i = 0; i <= pages; i++) {
		/* Not movable: never in the scratch area of KHO, which cannot be preserved. */
		ring->page[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!ring->page[i]) {
			luscope_ring_destroy(stream);
			return -ENOMEM;
		}
	}
	stream_ring_sort(ring);
	for (i = 0; i <= pages; i++) {
		ret = stream_ring_map(stream, i);
		if (ret) {
			luscope_ring_destroy(stream);
			return ret;
		}
	}
	return 0;
}

/*
 * The engine stands still, or the device is gone. What user space has mapped stays
 * until it unmaps.
 */
void luscope_ring_destroy(struct luscope_stream *stream)
{
	struct stream_ring *ring = &stream->ring;
	unsigned int i;

	for (i = 0; i < STREAM_MAX_FRAMES; i++) {
		if (test_bit(i, ring->mapped))
			dma_unmap_page(&stream->pdev->dev, ring->iova[i], PAGE_SIZE,
				       DMA_BIDIRECTIONAL);
		if (ring->page[i])
			__free_page(ring->page[i]);
	}
	memset(ring, 0, sizeof(*ring));
}

/*
 * What must not be done: luscope's planted faults. See pci_liveupdate_fault=. The one page
 * is the mailbox, which the device only reads: the next kernel lives to tell which it was.
 */
static bool stream_ring_forgets(const struct stream_ring *ring, unsigned int index, bool is_all)
{
	return is_all || (index == ring->pages && pci_liveupdate_fault("page-not-preserved"));
}

int luscope_ring_preserve(struct luscope_stream *stream)
{
	bool is_all_forgotten = pci_liveupdate_fault("buffer-not-preserved");
	struct stream_ring *ring = &stream->ring;
	unsigned int i;
	int ret;

	for (i = 0; i <= ring->pages; i++) {
		/* The translation tables of an IOMMU are not handed over. */
		if (ring->iova[i] != page_to_phys(ring->page[i])) {
			ret = -EOPNOTSUPP;
			goto err_unpreserve;
		}
		if (stream_ring_forgets(ring, i, is_all_forgotten))
			continue;
		ret = kho_preserve_pages(ring->page[i], 1);
		if (ret)
			goto err_unpreserve;
		__set_bit(i, ring->kho);
	}
	return 0;

err_unpreserve:
	luscope_ring_unpreserve(stream);
	return ret;
}

void luscope_ring_unpreserve(struct luscope_stream *stream)
{
	struct stream_ring *ring = &stream->ring;
	unsigned int i;

	for_each_set_bit(i, ring->kho, STREAM_MAX_FRAMES)
		kho_unpreserve_pages(ring->page[i], 1);
	bitmap_zero(ring->kho, STREAM_MAX_FRAMES);
}

/*
 * Take the pages back from KHO. The device writes to all of them, so that after a
 * failure those that did come are kept too.
 */
int luscope_ring_restore(struct luscope_stream *stream, unsigned int pages, const u64 *frames)
{
	struct stream_ring *ring = &stream->ring;
	unsigned int i;
	int ret = 0;

	ring->pages = pages;
	for (i = 0; i <= pages; i++) {
		ring->page[i] = kho_restore_pages(PFN_PHYS(frames[i]), 1);
		if (ring->page[i] && !stream_ring_map(stream, i) &&
		    ring->iova[i] == PFN_PHYS(frames[i]))
			continue;
		pci_err(stream->pdev, "page %u of the ring, frame %#llx, was not handed over\n",
			i, frames[i]);
		if (!ret)
			stream->refused_page = i;
		ret = -EFAULT;
	}
	return ret;
}

/* Give back the pages of a stream whose device is not there, or is not what it was. */
void luscope_ring_discard(unsigned int pages, const u64 *frames)
{
	struct page *page;
	unsigned int i;

	for (i = 0; i <= pages; i++) {
		page = kho_restore_pages(PFN_PHYS(frames[i]), 1);
		if (page)
			__free_page(page);
	}
}
