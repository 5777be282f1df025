// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of endpoints, and the memory each one streams into: ring pages with one mailbox page
 * behind them, of a memfd, or of the kernel's driver (driver.c).
 */
#define _GNU_SOURCE	/* memfd_create */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define MAILBOX_TAG	0x4c55534dull	/* "LUSM" */

static struct endpoint endpoints[MAX_ENDPOINTS];
static bool is_initialised;

/* Every place of the table, taken or not; one that was never taken has no ring and no session. */
struct endpoint *endpoint_at(unsigned int index)
{
	if (!is_initialised) {
		for (unsigned int i = 0; i < MAX_ENDPOINTS; i++)
			endpoints[i].ring = (struct ring){ .fd = -1, .session = -1 };
		is_initialised = true;
	}
	return &endpoints[index];
}

struct endpoint *endpoint_find(const char *bdf)
{
	for (unsigned int i = 0; i < MAX_ENDPOINTS; i++)
		if (!strcmp(endpoint_at(i)->bdf, bdf))
			return endpoint_at(i);
	return NULL;
}

/* The endpoint of that name, made known if it is new; the function need not exist yet. */
int endpoint_get(const char *bdf, struct endpoint **endpoint)
{
	int error = check_bdf(bdf);

	if (error)
		return error;
	*endpoint = endpoint_find(bdf);
	if (*endpoint)
		return 0;
	*endpoint = endpoint_find("");
	if (!*endpoint)
		return fail(EMFILE, "%d endpoints are in use already", MAX_ENDPOINTS);
	strcpy((*endpoint)->bdf, bdf);
	return 0;
}

int endpoint_with_ring(const char *bdf, struct endpoint **endpoint)
{
	*endpoint = endpoint_find(bdf);
	if (!*bdf || !*endpoint || (*endpoint)->ring.fd < 0)
		return fail(ENOENT, "%.32s has no buffer", bdf);
	return 0;
}

/* Writes [[first,count],...]: frames in ring order, run-length encoded. */
void put_frames(const char *key, const uint64_t *frames, unsigned int count)
{
	unsigned int first = 0;

	put_key(key);
	put_text("[");
	for (unsigned int i = 1; i <= count; i++) {
		if (i < count && frames[i] == frames[i - 1] + 1)
			continue;
		put_text("%s[%llu,%u]", first ? "," : "", (unsigned long long)frames[first], i - first);
		first = i;
	}
	put_text("]");
}

void ring_deinit(struct ring *ring)
{
	if (ring->memory)
		munmap(ring->memory, (ring->pages + 1) * PAGE_BYTES);
	if (ring->fd >= 0)
		close(ring->fd);
	ring->memory = NULL;
	ring->fd = -1;
	ring->is_driver = false;
	ring->session = -1;
}

/* Maps ring->fd, which has to be of exactly this size, and reads where its pages are. */
int ring_map(struct ring *ring, unsigned int pages)
{
	size_t size_bytes = (pages + 1) * PAGE_BYTES;
	struct stat facts;
	void *memory;

	if (ring->is_driver)
		return driver_ring_map(ring, pages);
	if (fstat(ring->fd, &facts))
		return fail(errno, "fstat of the memfd: %s", strerror(errno));
	if ((size_t)facts.st_size != size_bytes)
		return fail(EINVAL, "the memfd has %llu bytes, %u ring pages and a mailbox page are %zu",
			    (unsigned long long)facts.st_size, pages, size_bytes);
	memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (memory == MAP_FAILED)
		return fail(errno, "mmap of the memfd: %s", strerror(errno));
	ring->memory = memory;
	ring->pages = pages;
	return 0;
}

/* The word that the device reads by DMA: which kernel made the ring, counted from 1, under a tag. */
uint64_t *ring_mailbox(const struct ring *ring)
{
	return (uint64_t *)(ring->memory + (size_t)ring->pages * PAGE_BYTES);
}

void ring_fill_mailbox(const struct ring *ring)
{
	*ring_mailbox(ring) = MAILBOX_TAG << 32 | (kernel_update_number() + 1);
}

int ring_init(struct ring *ring, const char *name, unsigned int pages)
{
	int error = 0;

	ring->fd = memfd_create(name, MFD_CLOEXEC);
	if (ring->fd < 0)
		return fail(errno, "memfd_create: %s", strerror(errno));
	if (ftruncate(ring->fd, (pages + 1) * PAGE_BYTES))
		error = fail(errno, "ftruncate of the memfd: %s", strerror(errno));
	if (!error)
		error = ring_map(ring, pages);
	if (error)
		ring_deinit(ring);
	/* The allocator hands out falling frames: touched from its end the ring gets rising ones, in few runs. */
	for (unsigned int page = pages + 1; !error && page; page--)
		memset(ring->memory + (page - 1) * PAGE_BYTES, 0, PAGE_BYTES);
	if (!error)
		ring_fill_mailbox(ring);
	return error;
}

/*
 * PRESERVE_FD migrates pages that lie in KHO scratch memory, so frames are read after it and never
 * before (linux 7.3 mm/memfd_luo.c pins the folios).
 */
int ring_preserve(struct ring *ring, int session, uint64_t token)
{
	int error = luo_preserve(session, ring->fd, token);

	if (error)
		return error;
	ring->session = session;
	ring->token = token;
	return 0;
}

int ring_locate(struct ring *ring, unsigned int *moved)
{
	uint64_t before[MAX_RING_PAGES + 1];
	int error;

	if (!ring->is_driver && mlock(ring->memory, (ring->pages + 1) * PAGE_BYTES))
		return fail(errno, "mlock of the memfd: %s", strerror(errno));
	memcpy(before, ring->frames, sizeof(before));
	error = ring->is_driver ? driver_frames(ring, ring->frames) :
				  page_frames(ring->memory, ring->pages + 1, ring->frames);
	*moved = 0;
	for (unsigned int i = 0; !error && i <= ring->pages; i++)
		*moved += before[i] != ring->frames[i];
	return error;
}
