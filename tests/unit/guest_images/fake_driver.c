// SPDX-License-Identifier: GPL-2.0-only
/*
 * The agent as in a guest, over a kernel that is not there: linked with --wrap, it finds a driver, an
 * orchestrator and a function's config space here. What it asks of them is written to FAKE_LOG, and
 * the entries of the folder FAKE_DEV stand for those of /dev. A device is a memfd, so that it maps.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent.h"
#include "liveupdate_abi.h"
#include "luscope_stream.h"

#define FIRST_FRAME	0x1000u
#define MAX_FDS		1024
#define SYSFS		"/sys/bus/pci/"

int __real_open(const char *path, int flags, ...);
int __real_access(const char *path, int mode);
DIR *__real_opendir(const char *path);
int __real_ioctl(int fd, unsigned long command, void *argument);
int __real_close(int fd);

static enum kind { NOTHING, DEVICE, ORCHESTRATOR, SESSION } kinds[MAX_FDS];
static struct luscope_stream_status status = { .refused_page = LUSCOPE_STREAM_NO_PAGE };

static void note(const char *format, ...)
{
	FILE *log = fopen(getenv("FAKE_LOG"), "a");
	va_list arguments;

	va_start(arguments, format);
	vfprintf(log, format, arguments);
	va_end(arguments);
	fclose(log);
}

static uint64_t setting(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : fallback;
}

static int new_fd(enum kind kind)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	kinds[fd] = kind;
	if (kind == DEVICE && ftruncate(fd, (status.pages + 1) * PAGE_BYTES))
		abort();
	return fd;
}

static bool is_driver_path(const char *path, char *fake, size_t capacity_bytes)
{
	if (strncmp(path, "/dev/luscope-", strlen("/dev/luscope-")))
		return false;
	snprintf(fake, capacity_bytes, "%s/%s", getenv("FAKE_DEV"), path + strlen("/dev/"));
	return true;
}

/* COMMAND 0x0006: memory space and bus master. */
static int config_space(void)
{
	int fd = memfd_create("config", MFD_CLOEXEC);

	if (pwrite(fd, "\x06", 1, 4) != 1 || ftruncate(fd, 256))
		abort();
	return fd;
}

int __wrap_open(const char *path, int flags, ...)
{
	char fake[512];

	if (is_driver_path(path, fake, sizeof(fake))) {
		if (__real_access(fake, F_OK))
			return -1;
		note("open\n");
		return new_fd(DEVICE);
	}
	if (!strcmp(path, LUO_DEVICE))
		return new_fd(ORCHESTRATOR);
	if (!strncmp(path, SYSFS, strlen(SYSFS))) {
		note("%s %s\n", flags & (O_WRONLY | O_RDWR) ? "write" : "read", strrchr(path, '/') + 1);
		return config_space();
	}
	return __real_open(path, flags);
}

int __wrap_access(const char *path, int mode)
{
	char fake[512];

	if (!strncmp(path, SYSFS, strlen(SYSFS)))
		return 0;
	return __real_access(is_driver_path(path, fake, sizeof(fake)) ? fake : path, mode);
}

DIR *__wrap_opendir(const char *path)
{
	return __real_opendir(strcmp(path, "/dev") ? path : getenv("FAKE_DEV"));
}

static int device_ioctl(int fd, unsigned long command, void *argument)
{
	struct luscope_stream_frames *frames = argument;
	struct luscope_stream_setup *setup = argument;
	struct luscope_stream_start *start = argument;

	switch (command) {
	case LUSCOPE_STREAM_SETUP:
		note("setup %u\n", setup->pages);
		status.pages = setup->pages;
		return ftruncate(fd, (setup->pages + 1) * PAGE_BYTES);
	case LUSCOPE_STREAM_START:
		note("start %u %u %u\n", start->period_ns, start->interrupt_every, start->generation);
		status.flags |= LUSCOPE_STREAM_RUNNING;
		return 0;
	case LUSCOPE_STREAM_STOP:
		note("stop\n");
		status.flags &= ~LUSCOPE_STREAM_RUNNING;
		return 0;
	case LUSCOPE_STREAM_STATUS:
		*(struct luscope_stream_status *)argument = status;
		return 0;
	case LUSCOPE_STREAM_FRAMES:
		for (uint64_t i = 0; i < frames->count; i++)
			((uint64_t *)(uintptr_t)frames->frames)[i] = FIRST_FRAME + i;
		frames->count = status.pages + 1;
		return 0;
	}
	errno = ENOTTY;
	return -1;
}

static int session_ioctl(unsigned long command, struct luo_fd_args *args)
{
	if (command == LUO_PRESERVE_FD) {
		note("preserve %d %llu\n", kinds[args->fd] == DEVICE, (unsigned long long)args->token);
	} else if (command == LUO_RETRIEVE_FD && status.refused_page >= 0) {
		status.error = EFAULT;
		errno = EFAULT;
		return -1;
	} else if (command == LUO_RETRIEVE_FD) {
		status.pages = setting("FAKE_PAGES", 0);
		args->fd = new_fd(DEVICE);
	} else {
		note("finish\n");
	}
	return 0;
}

int __wrap_ioctl(int fd, unsigned long command, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, command);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	switch (fd < 0 || fd >= MAX_FDS ? NOTHING : kinds[fd]) {
	case DEVICE:
		return device_ioctl(fd, command, argument);
	case ORCHESTRATOR:
		((struct luo_session_args *)argument)->fd = new_fd(SESSION);
		return 0;
	case SESSION:
		return session_ioctl(command, argument);
	default:
		return __real_ioctl(fd, command, argument);
	}
}

int __wrap_close(int fd)
{
	if (fd >= 0 && fd < MAX_FDS)
		kinds[fd] = NOTHING;
	return __real_close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	status.interrupts_seen = 7;
	status.catch_up_seen = 1;
	status.refused_page = (int)setting("FAKE_REFUSED", LUSCOPE_STREAM_NO_PAGE);
	return agent_main(argv[1], true);
}
