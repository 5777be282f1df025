// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page frames by pagemap, and a detector: free memory filled with a pattern and read again shows what
 * a device wrote where it should not. Without it such corruption is silent.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"

#define PRESENT		(1ull << 63)		/* Documentation/admin-guide/mm/pagemap.rst */
#define FRAME_MASK	((1ull << 55) - 1)
#define MARGIN_MIB	24			/* left to the kernel and to us */
#define MAX_FRAMES	64
#define PAGE_WORDS	(PAGE_BYTES / sizeof(uint64_t))

/* Reads where @pages pages are; they are touched first, for only a mapped page has a frame. */
int page_frames(const void *memory, unsigned int pages, uint64_t *frames)
{
	size_t size_bytes = pages * sizeof(*frames);
	off_t offset = (uintptr_t)memory / PAGE_BYTES * sizeof(*frames);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return fail(errno, "cannot open /proc/self/pagemap: %s", strerror(errno));
	for (unsigned int i = 0; i < pages; i++)
		(void)*((const volatile uint8_t *)memory + (size_t)i * PAGE_BYTES);
	got = pread(fd, frames, size_bytes, offset);
	close(fd);
	if (got != (ssize_t)size_bytes)
		return fail(EIO, "pagemap gave %zd of %zu bytes", got, size_bytes);
	for (unsigned int i = 0; i < pages; i++) {
		if (!(frames[i] & PRESENT) || !(frames[i] & FRAME_MASK))
			return fail(EFAULT, "page %u of %u has no frame in pagemap (%016llx)", i, pages,
				    (unsigned long long)frames[i]);
		frames[i] &= FRAME_MASK;
	}
	return 0;
}

/* Both owned, from fill to scan. */
static uint64_t *filled;
static uint64_t *filled_frames;
static unsigned int filled_pages;

static uint64_t pattern(size_t word)
{
	return word * 0x9e3779b97f4a7c15ull ^ 0x6c7573636f7065ull;
}

static int available_mib(uint64_t *mib)
{
	char text[2048];
	const char *line;
	ssize_t got = read_file("/proc/meminfo", text, sizeof(text));

	line = got < 0 ? NULL : strstr(text, "MemAvailable:");
	if (!line)
		return fail(EIO, "/proc/meminfo does not say MemAvailable");
	*mib = strtoull(line + strlen("MemAvailable:"), NULL, 10) / 1024;
	return 0;
}

static void release(void)
{
	if (filled)
		munmap(filled, (size_t)filled_pages * PAGE_BYTES);
	free(filled_frames);
	filled = NULL;
	filled_frames = NULL;
	filled_pages = 0;
}

static int allocate(unsigned int pages)
{
	void *memory = mmap(NULL, (size_t)pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return fail(errno, "mmap of %u pages: %s", pages, strerror(errno));
	filled = memory;
	filled_pages = pages;
	filled_frames = malloc(pages * sizeof(*filled_frames));
	return filled_frames ? 0 : fail(ENOMEM, "no memory for %u frame numbers", pages);
}

/* "mib" 0 or absent takes what is available, less a margin. */
int cmd_fill(const struct json_object *request)
{
	uint64_t mib, available, most;
	int error = want_u64_or(request, "mib", 0, &mib);

	if (!error && filled)
		return fail(EBUSY, "%u pages are filled already: scan frees them", filled_pages);
	if (!error)
		error = available_mib(&available);
	if (error)
		return error;
	most = available > MARGIN_MIB ? available - MARGIN_MIB : 0;
	if (!mib)
		mib = most;
	if (!mib || mib > most)
		return fail(ENOMEM, "%llu MiB to fill: %llu are available, %u of them stay free",
			    (unsigned long long)mib, (unsigned long long)available, MARGIN_MIB);
	error = allocate(mib * (1024 * 1024 / PAGE_BYTES));
	if (!error) {
		for (size_t word = 0; word < filled_pages * PAGE_WORDS; word++)
			filled[word] = pattern(word);
		error = page_frames(filled, filled_pages, filled_frames);
	}
	if (error) {
		release();
		return error;
	}
	reply_begin();
	put_u64("pages", filled_pages);
	return 0;
}

static bool is_page_changed(unsigned int page)
{
	const volatile uint64_t *words = filled + page * PAGE_WORDS;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		if (words[i] != pattern(page * PAGE_WORDS + i))
			return true;
	return false;
}

/* Frames as they were at the fill: a page that moved since was overwritten where it had been. */
int cmd_scan(const struct json_object *request)
{
	uint64_t frames[MAX_FRAMES];
	unsigned int bad_pages = 0;

	(void)request;
	if (!filled)
		return fail(ENOENT, "nothing is filled");
	for (unsigned int page = 0; page < filled_pages; page++)
		if (is_page_changed(page)) {
			if (bad_pages < MAX_FRAMES)
				frames[bad_pages] = filled_frames[page];
			bad_pages++;
		}
	reply_begin();
	put_u64("pages", filled_pages);
	put_u64("bad_pages", bad_pages);
	put_key("frames");
	put_text("[");
	for (unsigned int i = 0; i < bad_pages && i < MAX_FRAMES; i++)
		put_text("%s%llu", i ? "," : "", (unsigned long long)frames[i]);
	put_text("]");
	release();
	return 0;
}
