// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel believes of PCI functions, as sysfs shows it without asking them: a host holds it
 * against what their registers hold. Left out is what sysfs reads from the function itself (link
 * speed and width, the bus numbers of a bridge), and what no register could contradict
 * (d3cold_allowed, broken_parity_status). Devices are at work meanwhile, so it has to be quick: one
 * open, read and close for each attribute, relative to the function's directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define FUNCTIONS	"/sys/bus/pci/devices"
#define ATTRIBUTE_BYTES	4096	/* sysfs gives no more */

/* Reads an attribute whole, without its final newline; false where there is none. */
static bool read_attribute(int function, const char *name, char *text, size_t capacity_bytes)
{
	int fd = openat(function, name, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return false;
	length = read(fd, text, capacity_bytes - 1);
	close(fd);
	if (length > 0 && text[length - 1] == '\n')
		length--;
	text[length > 0 ? length : 0] = '\0';
	return length > 0;
}

static void put_number(const char *key, int function, const char *name)
{
	char text[32];

	if (read_attribute(function, name, text, sizeof(text)))
		put_u64(key, strtoull(text, NULL, 0));
}

static void put_driver(int function)
{
	char target[256];
	ssize_t length = readlinkat(function, "driver", target, sizeof(target) - 1);
	const char *name;

	if (length < 0)
		return;
	target[length] = '\0';
	name = strrchr(target, '/');
	put_string("driver", name ? name + 1 : target);
}

/* "msi" or "msix" and the kernel's numbers of the interrupts that it has set up. */
static void put_vectors(int function)
{
	int fd = openat(function, "msi_irqs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool is_first = true;
	char kind[8];

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		if (is_first && read_attribute(fd, entry->d_name, kind, sizeof(kind))) {
			put_key(kind);
			put_text("[");
		}
		put_text("%s%d", is_first ? "" : ",", atoi(entry->d_name));
		is_first = false;
	}
	if (!is_first)
		put_text("]");
	closedir(directory);
}

/* Index, address, size and flags (linux include/linux/ioport.h) of each resource that it has. */
static void put_resources(int function)
{
	static char text[ATTRIBUTE_BYTES];
	char *rest = text, *line;
	bool is_first = true;

	if (!read_attribute(function, "resource", text, sizeof(text)))
		return;
	put_key("resources");
	put_text("[");
	for (int index = 0; (line = strsep(&rest, "\n")); index++) {
		uint64_t start = strtoull(line, &line, 16), end = strtoull(line, &line, 16);
		uint64_t flags = strtoull(line, &line, 16);

		if (!flags)
			continue;
		put_text("%s[%d,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", is_first ? "" : ",", index,
			 start, end - start + 1, flags);
		is_first = false;
	}
	put_text("]");
}

/* The bus below, by the name that the kernel has given it: "0000:03". */
static void put_secondary(int function)
{
	int fd = openat(function, "pci_bus", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		const char *number = strchr(entry->d_name, ':');

		if (number)
			put_u64("secondary", strtoul(number + 1, NULL, 16));
	}
	closedir(directory);
}

static void put_function(int functions, const char *bdf, bool is_first)
{
	int function = openat(functions, bdf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char power[16];

	put_text("%s{\"bdf\":\"%s\"", is_first ? "" : ",", bdf);
	if (function < 0) {
		put_bool("absent", true);
		put_text("}");
		return;
	}
	put_driver(function);
	put_number("enable", function, "enable");
	if (read_attribute(function, "power_state", power, sizeof(power)))
		put_string("power", power);
	put_number("irq", function, "irq");
	put_vectors(function);
	put_resources(function);
	put_secondary(function);
	put_number("ari", function, "ari_enabled");
	put_text("}");
	close(function);
}

/* Takes the next of several words, with a space behind each but the last; NULL at the end. */
static const char *next_bdf(const char **rest, char *bdf, size_t capacity_bytes)
{
	size_t length = strcspn(*rest, " ");

	if (!length)
		return NULL;
	snprintf(bdf, capacity_bytes, "%.*s", (int)length, *rest);
	*rest += length + ((*rest)[length] == ' ');
	return bdf;
}

/* "bdfs" names the functions. One that is not there any more is no error: that is known now. */
int cmd_state(const struct json_object *request)
{
	const char *bdfs, *rest;
	char bdf[BDF_BYTES];
	bool is_first = true;
	int functions, error = want_string(request, "bdfs", &bdfs);

	for (rest = bdfs; !error && next_bdf(&rest, bdf, sizeof(bdf));)
		error = check_bdf(bdf);
	if (error)
		return error;
	functions = open(FUNCTIONS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (functions < 0)
		return fail(errno, "cannot open " FUNCTIONS ": %s", strerror(errno));
	reply_begin();
	put_string("report", "state");
	put_key("functions");
	put_text("[");
	for (rest = bdfs; next_bdf(&rest, bdf, sizeof(bdf)); is_first = false)
		put_function(functions, bdf, is_first);
	put_text("]");
	close(functions);
	return 0;
}
