// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's driver for stream endpoints (../driver), where the kernel has it: a device for each
 * endpoint, whose ring takes the place of a memfd and whose ioctls take the place of the registers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"
#include "luscope_stream.h"

_Static_assert(MAX_RING_PAGES == LUSCOPE_STREAM_MAX_PAGES, "agent and driver have rings of one size");

#define DEVICES		"/dev"
#define PREFIX		"luscope-"

static int is_driver_device(const struct dirent *entry)
{
	return !strncmp(entry->d_name, PREFIX, strlen(PREFIX));
}

bool driver_is_anywhere(void)
{
	DIR *directory = opendir(DEVICES);
	const struct dirent *entry;
	bool is_found = false;

	if (!directory)
		return false;
	while (!is_found && (entry = readdir(directory)))
		is_found = is_driver_device(entry);
	closedir(directory);
	return is_found;
}

static void device_path(const char *bdf, char *path, size_t capacity_bytes)
{
	snprintf(path, capacity_bytes, DEVICES "/" PREFIX "%.15s", bdf);
}

bool driver_has(const char *bdf)
{
	char path[64];

	device_path(bdf, path, sizeof(path));
	return !access(path, F_OK);
}

static int open_device(const char *bdf, int *fd)
{
	char path[64];

	device_path(bdf, path, sizeof(path));
	*fd = open(path, O_RDWR | O_CLOEXEC);
	return *fd < 0 ? fail(errno, "cannot open %s: %s", path, strerror(errno)) : 0;
}

/* A file that came from the orchestrator says by this what it is. */
bool driver_is_fd(int fd)
{
	struct luscope_stream_status status;

	return !ioctl(fd, LUSCOPE_STREAM_STATUS, &status);
}

/* The endpoint's file, or one that the caller closes: it may be asked things without having a ring. */
static int borrow_device(const struct endpoint *endpoint, int *fd, bool *is_ours)
{
	*is_ours = !endpoint->ring.is_driver || endpoint->ring.fd < 0;
	if (*is_ours)
		return open_device(endpoint->bdf, fd);
	*fd = endpoint->ring.fd;
	return 0;
}

static int read_status(struct endpoint *endpoint, struct luscope_stream_status *status)
{
	bool is_ours;
	int fd, error = borrow_device(endpoint, &fd, &is_ours);

	if (error)
		return error;
	if (ioctl(fd, LUSCOPE_STREAM_STATUS, status))
		error = fail(errno, "status of %s: %s", endpoint->bdf, strerror(errno));
	if (is_ours)
		close(fd);
	return error;
}

int driver_frames(const struct ring *ring, uint64_t *frames)
{
	struct luscope_stream_frames request = {
		.frames = (uintptr_t)frames,
		.count = ring->pages + 1,
	};

	if (ioctl(ring->fd, LUSCOPE_STREAM_FRAMES, &request))
		return fail(errno, "page frames of the driver's ring: %s", strerror(errno));
	if (request.count != ring->pages + 1)
		return fail(EINVAL, "the driver's ring has %u pages, %u and a mailbox page were expected",
			    request.count, ring->pages);
	return 0;
}

/* Maps the ring of ring->fd, which has to be of this size. */
int driver_ring_map(struct ring *ring, unsigned int pages)
{
	struct luscope_stream_status status;
	void *memory;

	if (ioctl(ring->fd, LUSCOPE_STREAM_STATUS, &status))
		return fail(errno, "status of the driver's ring: %s", strerror(errno));
	if (status.pages != pages)
		return fail(EINVAL, "the driver's ring has %u pages, not %u", status.pages, pages);
	memory = mmap(NULL, (pages + 1) * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (memory == MAP_FAILED)
		return fail(errno, "mmap of the driver's ring: %s", strerror(errno));
	ring->memory = memory;
	ring->pages = pages;
	return 0;
}

int driver_ring_init(struct ring *ring, const char *bdf, unsigned int pages)
{
	struct luscope_stream_setup setup = { .pages = pages };
	int error = open_device(bdf, &ring->fd);

	if (error)
		return error;
	ring->is_driver = true;
	if (ioctl(ring->fd, LUSCOPE_STREAM_SETUP, &setup))
		error = fail(errno, "the driver sets up no ring of %u pages: %s", pages, strerror(errno));
	if (!error)
		error = driver_ring_map(ring, pages);
	if (error)
		ring_deinit(ring);
	else
		ring_fill_mailbox(ring);
	return error;
}

int driver_start(const struct ring *ring, const struct stream_settings *settings)
{
	struct luscope_stream_start start = {
		.period_ns = settings->period_ns,
		.interrupt_every = settings->interrupt_enable ? settings->interrupt_every : 0,
		.generation = settings->generation,
	};

	if (settings->vector != LUSCOPE_STREAM_VECTOR)
		return fail(EINVAL, "vector %llu: the driver has the stream's interrupts at %d",
			    (unsigned long long)settings->vector, LUSCOPE_STREAM_VECTOR);
	if (ioctl(ring->fd, LUSCOPE_STREAM_START, &start))
		return fail(errno, "the driver does not start the stream: %s", strerror(errno));
	return 0;
}

int driver_stop(struct endpoint *endpoint)
{
	bool is_ours;
	int fd, error = borrow_device(endpoint, &fd, &is_ours);

	if (error)
		return error;
	if (ioctl(fd, LUSCOPE_STREAM_STOP))
		error = fail(errno, "the driver does not stop %s: %s", endpoint->bdf, strerror(errno));
	if (is_ours)
		close(fd);
	return error;
}

int driver_is_running(struct endpoint *endpoint, bool *is_running)
{
	struct luscope_stream_status status;
	int error = read_status(endpoint, &status);

	*is_running = !error && status.flags & LUSCOPE_STREAM_RUNNING;
	return error;
}

/* "is_whole" is the reply to status, else to stop. */
int driver_put_status(struct endpoint *endpoint, bool is_whole)
{
	struct luscope_stream_status status;
	int error = read_status(endpoint, &status);

	if (error)
		return error;
	reply_begin();
	put_bool("driver", true);
	if (is_whole)
		put_bool("running", status.flags & LUSCOPE_STREAM_RUNNING);
	put_u64("sequence", status.sequence);
	put_u64("written", status.written);
	put_u64("blocked", status.blocked);
	put_u64("interrupts", status.interrupts);
	put_u64("mailbox_value", status.mailbox_value);
	put_u64("interrupts_seen", status.interrupts_seen);
	put_u64("catch_up_seen", status.catch_up_seen);
	put_u64("slots_seen", status.slots_seen);
	put_u64("slots_caught_up", status.slots_caught_up);
	if (!is_whole)
		return 0;
	put_bool("preserved", status.flags & LUSCOPE_STREAM_PRESERVED);
	put_bool("incoming", status.flags & LUSCOPE_STREAM_INCOMING);
	put_bool("interrupts_set_up", status.flags & LUSCOPE_STREAM_INTERRUPTS);
	if (status.error)
		put_u64("driver_errno", status.error);
	if (status.refused_page != LUSCOPE_STREAM_NO_PAGE)
		put_u64("page", status.refused_page);
	return 0;
}

/* What the driver has to add to a retrieve that failed; failing to say so is nothing new. */
void driver_put_refusal(const char *bdf)
{
	struct luscope_stream_status status;
	int fd;

	put_bool("driver", true);
	if (open_device(bdf, &fd))
		return;
	if (!ioctl(fd, LUSCOPE_STREAM_STATUS, &status) && status.refused_page != LUSCOPE_STREAM_NO_PAGE)
		put_u64("page", status.refused_page);
	close(fd);
}
