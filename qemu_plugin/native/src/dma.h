/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: which iova lies where in which file.
 *
 * Ranges are kept sorted in leaves of at most DMA_LEAF_RANGES, so that 65,535 of them cost a few kilobytes
 * of moving at most, in whatever order they come. A file is mapped once, whole, however many ranges lie in
 * it (QEMU sends one memfd for all RAM, and with an IOMMU one range for each 4 KiB page).
 *
 * RAM may shrink under its mapping. A file sealed against shrinking (memory-backend-memfd's default) is
 * touched directly. Any other is touched through process_vm_readv/writev on this very process: the kernel
 * copies and answers EFAULT where a touch would have been SIGBUS. A signal handler would be cheaper and
 * would belong to the whole process, pytest's faulthandler included; pwrite would make the file grow again.
 */
#ifndef LUSCOPE_DMA_H
#define LUSCOPE_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DMA_PAGE_BYTES 4096
#define DMA_RANGES_MAX 65535		/* VFIOU 'Version' max_dma_maps */
#define DMA_LEAF_RANGES 256
#define DMA_READABLE 1			/* VFIOU 'DMA_MAP' flags */
#define DMA_WRITEABLE 2

struct dma_file {
	dev_t device;
	ino_t inode;
	uint8_t *hva;			/* owned mapping of the whole file */
	uint64_t bytes;
	uint32_t references;
	bool is_writable;
	bool is_guarded;
};

struct dma_range {
	uint64_t iova;
	uint64_t size;
	uint64_t offset;
	struct dma_file *file;		/* NULL: announced without a file, not accessible */
	uint32_t protection;
};

struct dma_leaf {
	uint32_t count;
	struct dma_range range[DMA_LEAF_RANGES];
};

struct dma_table {
	struct dma_leaf **leaf;
	uint32_t leaves, leaves_room;
	uint32_t ranges;
	struct dma_file **file;		/* files with references; owned */
	uint32_t files, files_room;
	struct dma_file *idle;		/* the last to lose its ranges: mapped again, as often as not */
	struct dma_file **dead;		/* files without, until dma_table_reap() unmaps them; owned */
	uint32_t deads, deads_room;
};

/* Finds or maps the file; fd stays the caller's. Takes no reference. */
int dma_file_get(struct dma_table *t, int fd, struct dma_file **out);
/* -EINVAL empty, wrapping, unaligned, outside the file; -EEXIST overlaps; -ENOSPC, -ENOMEM. */
int dma_table_map(struct dma_table *t, const struct dma_range *range);
/* Removes the ranges inside [iova, iova + size), which may be none; -EINVAL cuts one in two. */
int dma_table_unmap(struct dma_table *t, uint64_t iova, uint64_t size);
void dma_table_clear(struct dma_table *t);
/* Gives up the file that is kept for the next mapping. */
void dma_table_release_idle(struct dma_table *t);
/* Unmaps files that lost their last range: outside the lock, as it may take milliseconds. */
void dma_table_reap(struct dma_table *t);
void dma_table_deinit(struct dma_table *t);

/* The range that holds iova, or NULL. */
struct dma_range *dma_table_find(const struct dma_table *t, uint64_t iova);
/* All or nothing as far as the table can tell: -EFAULT where a byte has no accessible mapping. */
int dma_read(const struct dma_table *t, uint64_t iova, uint8_t *data, uint64_t size);
int dma_write(const struct dma_table *t, uint64_t iova, const uint8_t *data, uint64_t size);

/* Memory of [iova, iova + size) if one range holds it all and it can be touched directly, else NULL. */
static inline uint8_t *dma_hva(const struct dma_table *t, uint64_t iova, uint64_t size, uint32_t protection)
{
	const struct dma_range *r = dma_table_find(t, iova);

	if (!r || !r->file || r->file->is_guarded || (r->protection & protection) != protection ||
	    r->size - (iova - r->iova) < size)
		return NULL;
	return r->file->hva + r->offset + (iova - r->iova);
}

#endif
