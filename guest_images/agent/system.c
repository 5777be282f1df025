// SPDX-License-Identifier: GPL-2.0-only
/* Small files of proc and sysfs, the kernel's command line and its log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>

#include "agent.h"

#define SYSLOG_ACTION_READ_ALL		3
#define SYSLOG_ACTION_SIZE_BUFFER	10

/* Reads what fits, ends it with a zero and drops a final newline. Returns its length or -errno. */
ssize_t read_file(const char *path, char *text, size_t capacity_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got = 0;

	if (fd < 0)
		return -errno;
	while (length < capacity_bytes - 1) {
		got = read(fd, text + length, capacity_bytes - 1 - length);
		if (got <= 0)
			break;
		length += got;
	}
	if (got < 0)
		got = -errno;
	close(fd);
	if (length && text[length - 1] == '\n')
		length--;
	text[length] = '\0';
	return got < 0 ? got : (ssize_t)length;
}

/* Copies the value of the last KEY=VALUE on the kernel's command line. */
bool cmdline_value(const char *key, char *value, size_t capacity_bytes)
{
	static char cmdline[4096];
	size_t key_bytes = strlen(key);
	bool is_found = false;
	char *rest = cmdline, *word;

	if (read_file("/proc/cmdline", cmdline, sizeof(cmdline)) < 0)
		return false;
	while ((word = strsep(&rest, " "))) {
		if (strncmp(word, key, key_bytes) || (word[key_bytes] && word[key_bytes] != '='))
			continue;
		word += key_bytes + (word[key_bytes] == '=');
		snprintf(value, capacity_bytes, "%s", word);
		is_found = true;
	}
	return is_found;
}

bool cmdline_has(const char *word)
{
	char value[2];

	return cmdline_value(word, value, sizeof(value));
}

static char *read_kernel_log(void)
{
	int capacity_bytes = klogctl(SYSLOG_ACTION_SIZE_BUFFER, NULL, 0);
	int got;
	char *log;

	if (capacity_bytes <= 0)
		return NULL;
	log = malloc(capacity_bytes + 1);
	if (!log)
		return NULL;
	got = klogctl(SYSLOG_ACTION_READ_ALL, log, capacity_bytes);
	log[got > 0 ? got : 0] = '\0';
	return log;
}

/*
 * Whether this kernel was handed anything, in its own words (linux 7.3 kernel/liveupdate:
 * kexec_handover.c, luo_core.c). Without a readable log both are as after a cold boot.
 */
void put_kernel_facts(void)
{
	static const char luo[] = "luo: Retrieved live update data, liveupdate number: ";
	char *log = read_kernel_log();
	const char *number = log ? strstr(log, luo) : NULL;

	put_bool("kho", log && strstr(log, "KHO: found kexec handover data"));
	put_u64("luo_number", number ? strtoull(number + strlen(luo), NULL, 10) : 0);
	free(log);
}
