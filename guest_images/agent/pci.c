// SPDX-License-Identifier: GPL-2.0-only
/* PCI functions through sysfs: config space, enable, BAR mappings. No driver is bound to them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define DEVICES			"/sys/bus/pci/devices"
#define CONFIG_BYTES		4096u
#define MAX_CAPABILITIES	48	/* (256 - 64) / 4: more is a loop */

/* Takes "0000:03:00.0" and nothing else, for it becomes part of a path. */
int check_bdf(const char *bdf)
{
	static const char shape[] = "xxxx:xx:xx.x";
	size_t i;

	for (i = 0; shape[i] && bdf[i]; i++)
		if (shape[i] == 'x' ? !strchr("0123456789abcdef", bdf[i]) : bdf[i] != shape[i])
			break;
	if (shape[i] || bdf[i])
		return fail(EINVAL, "\"%.32s\" is not a domain:bus:device.function", bdf);
	return 0;
}

static int open_attribute(const char *bdf, const char *name, int flags, int *fd)
{
	char path[320];
	int error = check_bdf(bdf);

	if (error)
		return error;
	snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
	*fd = open(path, flags | O_CLOEXEC);
	if (*fd < 0)
		return fail(errno, "cannot open %s: %s", path, strerror(errno));
	return 0;
}

bool pci_exists(const char *bdf)
{
	char path[320];

	snprintf(path, sizeof(path), DEVICES "/%s/config", bdf);
	return !access(path, R_OK);
}

static int check_access(unsigned int offset, unsigned int width)
{
	if ((width != 1 && width != 2 && width != 4) || offset % width || offset >= CONFIG_BYTES)
		return fail(EINVAL, "config access of %u bytes at 0x%x: not 1, 2 or 4, aligned, below 0x%x",
			    width, offset, CONFIG_BYTES);
	return 0;
}

int pci_config_read(const char *bdf, unsigned int offset, unsigned int width, uint32_t *value)
{
	ssize_t got;
	int fd, error = check_access(offset, width);

	if (!error)
		error = open_attribute(bdf, "config", O_RDONLY, &fd);
	if (error)
		return error;
	*value = 0;
	got = pread(fd, value, width, offset);
	error = got < 0 ? errno : EIO;
	close(fd);
	if (got != (ssize_t)width)
		return fail(error, "config read of %u bytes at 0x%x of %s: %s", width, offset, bdf,
			    strerror(error));
	return 0;
}

int pci_config_write(const char *bdf, unsigned int offset, unsigned int width, uint32_t value)
{
	ssize_t got;
	int fd, error = check_access(offset, width);

	if (!error)
		error = open_attribute(bdf, "config", O_RDWR, &fd);
	if (error)
		return error;
	got = pwrite(fd, &value, width, offset);
	error = got < 0 ? errno : EIO;
	close(fd);
	if (got != (ssize_t)width)
		return fail(error, "config write of %u bytes at 0x%x of %s: %s", width, offset, bdf,
			    strerror(error));
	return 0;
}

/*
 * Turns on memory decode of the function, and memory decode and bus mastering of every bridge above
 * it (linux 7.3 drivers/pci/pci.c pci_enable_bridge). A bound driver has done that already.
 */
int pci_enable(const char *bdf)
{
	int fd, error = open_attribute(bdf, "enable", O_WRONLY, &fd);
	ssize_t got;

	if (error)
		return error;
	got = write(fd, "1", 1);
	error = got < 0 ? errno : 0;
	close(fd);
	if (error && error != EBUSY)
		return fail(error, "cannot enable %s: %s", bdf, strerror(error));
	return 0;
}

/* Maps a whole memory BAR, uncached; the mapping is the caller's. */
int pci_map_bar(const char *bdf, unsigned int bar, volatile uint8_t **mapping, size_t *size_bytes)
{
	char name[16];
	struct stat facts;
	void *memory;
	int fd, error;

	snprintf(name, sizeof(name), "resource%u", bar);
	error = open_attribute(bdf, name, O_RDWR | O_SYNC, &fd);
	if (error)
		return error;
	if (fstat(fd, &facts) || !facts.st_size) {
		close(fd);
		return fail(ENXIO, "%s of %s has no size", name, bdf);
	}
	memory = mmap(NULL, facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	error = errno;
	close(fd);
	if (memory == MAP_FAILED)
		return fail(error, "cannot map %s of %s: %s", name, bdf, strerror(error));
	*mapping = memory;
	*size_bytes = facts.st_size;
	return 0;
}

/* Finds a capability of the chain below 0x100. */
int pci_find_capability(const char *bdf, uint8_t id, unsigned int *offset)
{
	uint32_t next, header;
	int error = pci_config_read(bdf, PCI_CAPABILITY_LIST, 1, &next);

	for (int i = 0; !error && next >= 0x40 && i < MAX_CAPABILITIES; i++) {
		*offset = next & ~3u;
		error = pci_config_read(bdf, *offset, 2, &header);
		if (!error && (header & 0xff) == id)
			return 0;
		next = header >> 8;
	}
	return error ? error : fail(ENXIO, "%s has no capability 0x%02x", bdf, id);
}

static int is_function_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void put_device(const char *bdf, bool is_first)
{
	uint32_t id = 0;

	if (pci_config_read(bdf, PCI_VENDOR_ID, 4, &id))
		id = 0xffffffff;
	put_text("%s[\"%s\",\"%04x\",\"%04x\"]", is_first ? "" : ",", bdf, id & 0xffff, id >> 16);
}

int cmd_devices(const struct json_object *request)
{
	struct dirent **entries;
	int count = scandir(DEVICES, &entries, is_function_name, alphasort);

	(void)request;
	if (count < 0)
		return fail(errno, "cannot list " DEVICES ": %s", strerror(errno));
	reply_begin();
	put_key("devices");
	put_text("[");
	for (int i = 0; i < count; i++) {
		put_device(entries[i]->d_name, !i);
		free(entries[i]);
	}
	put_text("]");
	free(entries);
	return 0;
}

/* With "value" a write, not read back: each access is an event of the recording. */
int cmd_config(const struct json_object *request)
{
	uint64_t offset, width, value;
	uint32_t word;
	const char *bdf;
	int error;

	error = want_string(request, "bdf", &bdf);
	if (!error)
		error = want_u64(request, "offset", &offset);
	if (!error)
		error = want_u64(request, "width", &width);
	if (!error)
		error = want_u64_or(request, "value", 0, &value);
	if (error)
		return error;
	if (offset >= CONFIG_BYTES || width > 4 || value >> 32)
		return fail(EINVAL, "offset, width or value is out of range");
	word = value;
	if (json_find(request, "value"))
		error = pci_config_write(bdf, offset, width, word);
	else
		error = pci_config_read(bdf, offset, width, &word);
	if (error)
		return error;
	reply_begin();
	put_u64("value", word);
	return 0;
}

/* Has the kernel look for devices on every bus again; returns when it has. */
int cmd_rescan(const struct json_object *request)
{
	int fd = open("/sys/bus/pci/rescan", O_WRONLY | O_CLOEXEC);
	int error = 0;

	(void)request;
	if (fd < 0)
		return fail(errno, "/sys/bus/pci/rescan: %s", strerror(errno));
	if (write(fd, "1", 1) != 1)
		error = errno;
	close(fd);
	return error ? fail(error, "rescan: %s", strerror(error)) : 0;
}
