// SPDX-License-Identifier: MIT
/* The table of DMA ranges and the copies through it. Callers hold the engine's lock, except for get and reap. */
#include "os.h"

#include "dma.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* ---- files ---- */

static int grow(void **array, uint32_t *room, uint32_t count, size_t item)
{
	uint32_t wanted = *room ? *room * 2 : 16;
	void *bigger;

	if (count < *room)
		return 0;
	bigger = realloc(*array, wanted * item);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*room = wanted;
	return 0;
}

static struct dma_file *file_find(struct dma_table *t, const struct stat *st)
{
	for (uint32_t i = 0; i < t->files; i++) {
		struct dma_file *f = t->file[i];

		/* One that has grown since gets a mapping of its new size; the old one serves its ranges on. */
		if (f->device == st->st_dev && f->inode == st->st_ino && f->bytes >= (uint64_t)st->st_size)
			return f;
	}
	return NULL;
}

static int file_create(int fd, const struct stat *st, struct dma_file **out)
{
	struct dma_file *f = calloc(1, sizeof(*f));
	int seals = fcntl(fd, F_GET_SEALS);

	if (!f)
		return -ENOMEM;
	f->device = st->st_dev;
	f->inode = st->st_ino;
	f->bytes = (uint64_t)st->st_size;
	f->is_writable = true;
	f->is_guarded = seals < 0 || !(seals & F_SEAL_SHRINK);
	f->hva = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (f->hva == MAP_FAILED && (errno == EACCES || errno == EPERM)) {
		f->is_writable = false;
		f->hva = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, fd, 0);
	}
	if (f->hva == MAP_FAILED) {
		int err = -errno;

		free(f);
		return err;
	}
	/* A crash of the bench is not to dump the guest's RAM. */
	madvise(f->hva, f->bytes, MADV_DONTDUMP);
	*out = f;
	return 0;
}

int dma_file_get(struct dma_table *t, int fd, struct dma_file **out)
{
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return -EINVAL;
	*out = file_find(t, &st);
	if (*out)
		return 0;
	err = grow((void **)&t->file, &t->files_room, t->files, sizeof(*t->file));
	/* Room for it among the dead as well: unmapping must not fail. */
	if (!err)
		err = grow((void **)&t->dead, &t->deads_room, t->files + t->deads, sizeof(*t->dead));
	if (!err)
		err = file_create(fd, &st, out);
	if (!err)
		t->file[t->files++] = *out;
	return err;
}

static void file_bury(struct dma_table *t, struct dma_file *f)
{
	for (uint32_t i = 0; i < t->files; i++) {
		if (t->file[i] == f) {
			t->file[i] = t->file[--t->files];
			break;
		}
	}
	t->dead[t->deads++] = f;
}

void dma_table_release_idle(struct dma_table *t)
{
	if (t->idle)
		file_bury(t, t->idle);
	t->idle = NULL;
}

static void file_put(struct dma_table *t, struct dma_file *f)
{
	if (!f || --f->references)
		return;
	dma_table_release_idle(t);
	t->idle = f;
}

void dma_table_reap(struct dma_table *t)
{
	while (t->deads) {
		struct dma_file *f = t->dead[--t->deads];

		munmap(f->hva, f->bytes);
		free(f);
	}
}

/* ---- ranges ---- */

/* Index of the last leaf that begins at or below iova, or 0. */
static uint32_t leaf_index(const struct dma_table *t, uint64_t iova)
{
	uint32_t low = 0, high = t->leaves;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (t->leaf[middle]->range[0].iova <= iova)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* How many of the leaf's ranges begin at or below iova. */
static uint32_t range_index(const struct dma_leaf *leaf, uint64_t iova)
{
	uint32_t low = 0, high = leaf->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (leaf->range[middle].iova <= iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct dma_range *dma_table_find(const struct dma_table *t, uint64_t iova)
{
	struct dma_leaf *leaf;
	uint32_t i;

	if (!t->leaves)
		return NULL;
	leaf = t->leaf[leaf_index(t, iova)];
	i = range_index(leaf, iova);
	if (!i || iova - leaf->range[i - 1].iova >= leaf->range[i - 1].size)
		return NULL;
	return &leaf->range[i - 1];
}

/* The first range at or above iova; *leaf_out and *index_out tell where. False: there is none. */
static bool range_at_or_above(const struct dma_table *t, uint64_t iova, uint32_t *leaf_out, uint32_t *index_out)
{
	uint32_t l, i;

	if (!t->leaves)
		return false;
	l = leaf_index(t, iova);
	i = range_index(t->leaf[l], iova);
	if (i && t->leaf[l]->range[i - 1].iova == iova)
		i--;
	if (i == t->leaf[l]->count) {
		l++;
		i = 0;
	}
	*leaf_out = l;
	*index_out = i;
	return l < t->leaves;
}

static int leaf_insert(struct dma_table *t, uint32_t at)
{
	struct dma_leaf *leaf;
	int err = grow((void **)&t->leaf, &t->leaves_room, t->leaves, sizeof(*t->leaf));

	if (err)
		return err;
	leaf = malloc(sizeof(*leaf));
	if (!leaf)
		return -ENOMEM;
	leaf->count = 0;
	memmove(&t->leaf[at + 1], &t->leaf[at], (t->leaves - at) * sizeof(*t->leaf));
	t->leaf[at] = leaf;
	t->leaves++;
	return 0;
}

static int leaf_split(struct dma_table *t, uint32_t at)
{
	struct dma_leaf *left, *right;
	int err = leaf_insert(t, at + 1);

	if (err)
		return err;
	left = t->leaf[at];
	right = t->leaf[at + 1];
	/* Ranges mostly arrive in ascending order: leave the last leaf nearly full rather than half empty. */
	left->count = at + 2 == t->leaves ? DMA_LEAF_RANGES - 1 : DMA_LEAF_RANGES / 2;
	right->count = DMA_LEAF_RANGES - left->count;
	memcpy(right->range, &left->range[left->count], right->count * sizeof(*right->range));
	return 0;
}

static int range_check(const struct dma_range *r)
{
	uint64_t unaligned = (r->iova | r->size | r->offset) & (DMA_PAGE_BYTES - 1);

	/* [iova, iova + size) may end at 2^64, not beyond. */
	if (!r->size || unaligned || r->iova + (r->size - 1) < r->iova)
		return -EINVAL;
	if (r->file && (r->offset > r->file->bytes || r->file->bytes - r->offset < r->size))
		return -EINVAL;
	if (r->file && (r->protection & DMA_WRITEABLE) && !r->file->is_writable)
		return -EACCES;
	return 0;
}

int dma_table_map(struct dma_table *t, const struct dma_range *range)
{
	uint64_t last = range->iova + (range->size - 1);
	struct dma_leaf *leaf;
	uint32_t l, i;
	int err = range_check(range);

	if (!err && t->ranges == DMA_RANGES_MAX)
		err = -ENOSPC;
	if (!err && dma_table_find(t, range->iova))
		err = -EEXIST;
	if (!err && range_at_or_above(t, range->iova, &l, &i) && t->leaf[l]->range[i].iova <= last)
		err = -EEXIST;
	if (!err && !t->leaves)
		err = leaf_insert(t, 0);
	if (err)
		goto out;
	l = leaf_index(t, range->iova);
	if (t->leaf[l]->count == DMA_LEAF_RANGES) {
		err = leaf_split(t, l);
		if (err)
			goto out;
		l = leaf_index(t, range->iova);
	}
	leaf = t->leaf[l];
	i = range_index(leaf, range->iova);
	memmove(&leaf->range[i + 1], &leaf->range[i], (leaf->count - i) * sizeof(*leaf->range));
	leaf->range[i] = *range;
	leaf->count++;
	t->ranges++;
	if (range->file) {
		range->file->references++;
		if (range->file == t->idle)
			t->idle = NULL;
	}
out:
	if (err && range->file && !range->file->references && range->file != t->idle)
		file_bury(t, range->file);
	return err;
}

static void range_remove(struct dma_table *t, uint32_t l, uint32_t i)
{
	struct dma_leaf *leaf = t->leaf[l];

	file_put(t, leaf->range[i].file);
	leaf->count--;
	t->ranges--;
	memmove(&leaf->range[i], &leaf->range[i + 1], (leaf->count - i) * sizeof(*leaf->range));
	if (!leaf->count) {
		free(leaf);
		t->leaves--;
		memmove(&t->leaf[l], &t->leaf[l + 1], (t->leaves - l) * sizeof(*t->leaf));
	}
}

int dma_table_unmap(struct dma_table *t, uint64_t iova, uint64_t size)
{
	uint64_t last = iova + (size - 1);
	struct dma_range *edge;
	uint32_t l, i;

	if (!size || last < iova)
		return -EINVAL;
	edge = dma_table_find(t, iova);
	if (edge && edge->iova != iova)
		return -EINVAL;
	edge = dma_table_find(t, last);
	if (edge && edge->iova + (edge->size - 1) != last)
		return -EINVAL;
	while (range_at_or_above(t, iova, &l, &i) && t->leaf[l]->range[i].iova <= last)
		range_remove(t, l, i);
	return 0;
}

void dma_table_clear(struct dma_table *t)
{
	while (t->leaves) {
		struct dma_leaf *leaf = t->leaf[--t->leaves];

		for (uint32_t i = 0; i < leaf->count; i++)
			file_put(t, leaf->range[i].file);
		free(leaf);
	}
	t->ranges = 0;
	dma_table_release_idle(t);
}

void dma_table_deinit(struct dma_table *t)
{
	dma_table_clear(t);
	dma_table_reap(t);
	free(t->leaf);
	free(t->file);
	free(t->dead);
}

/* ---- copies ---- */

static bool is_covered(const struct dma_table *t, uint64_t iova, uint64_t size, uint32_t protection)
{
	while (size) {
		const struct dma_range *r = dma_table_find(t, iova);
		uint64_t here;

		if (!r || !r->file || (r->protection & protection) != protection)
			return false;
		here = r->size - (iova - r->iova);
		if (here >= size)
			return true;
		iova += here;
		size -= here;
		if (!iova)
			return false;
	}
	return true;
}

/* Both directions name the guest's memory as the remote side: only that may fault. */
static int copy_guarded(uint8_t *hva, uint8_t *data, uint64_t size, bool is_write)
{
	struct iovec local = { data, size }, remote = { hva, size };
	long n = os_call(is_write ? SYS_process_vm_writev : SYS_process_vm_readv, getpid(), (long)&local, 1,
			 (long)&remote, 1, 0);

	if (n < 0)
		return (int)n;
	return (uint64_t)n == size ? 0 : -EFAULT;
}

static int copy(const struct dma_table *t, uint64_t iova, uint8_t *data, uint64_t size, bool is_write)
{
	int err = 0;

	if (!size || !is_covered(t, iova, size, is_write ? DMA_WRITEABLE : DMA_READABLE))
		return -EFAULT;
	while (size && !err) {
		const struct dma_range *r = dma_table_find(t, iova);
		uint64_t here = r->size - (iova - r->iova);
		uint8_t *hva = r->file->hva + r->offset + (iova - r->iova);

		if (here > size)
			here = size;
		if (r->file->is_guarded)
			err = copy_guarded(hva, data, here, is_write);
		else if (is_write)
			memcpy(hva, data, here);
		else
			memcpy(data, hva, here);
		data += here;
		iova += here;
		size -= here;
	}
	return err;
}

int dma_read(const struct dma_table *t, uint64_t iova, uint8_t *data, uint64_t size)
{
	return copy(t, iova, data, size, false);
}

int dma_write(const struct dma_table *t, uint64_t iova, const uint8_t *data, uint64_t size)
{
	return copy(t, iova, (uint8_t *)(uintptr_t)data, size, true);
}
