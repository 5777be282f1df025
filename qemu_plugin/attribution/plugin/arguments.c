// SPDX-License-Identifier: MIT
/* The plugin's arguments: "NAME=VALUE" each. No strtoul or sscanf: newer headers bind them to a newer libc. */
#include "plugin.h"

/* Reads a hexadecimal number and what has to follow it; NULL where either is not there. */
static const char *number(const char *text, char terminator, uint64_t *value)
{
	const char *p = text;

	for (*value = 0; *p; p++) {
		unsigned int digit = *p >= '0' && *p <= '9' ? (unsigned int)(*p - '0') :
				     *p >= 'a' && *p <= 'f' ? (unsigned int)(*p - 'a' + 10) : 16;

		if (digit == 16)
			break;
		*value = *value << 4 | digit;
	}
	if (p == text || p - text > 16 || *p != terminator)
		return NULL;
	return terminator ? p + 1 : p;
}

static const char *range(const char *text, struct range *range)
{
	text = number(text, '-', &range->begin);
	if (text)
		text = number(text, ':', &range->end);
	return text && range->begin <= range->end ? text : NULL;
}

static int kernel(const char *text)
{
	struct kernel *kernel = &plugin.kernels[plugin.kernel_count];

	if (plugin.kernel_count == KERNELS_MAX)
		return -E2BIG;
	text = range(text, &kernel->port_writer);
	if (text)
		text = range(text, &kernel->ecam_writer);
	if (!text || !number(text, '\0', &kernel->jump))
		return -EINVAL;
	plugin.kernel_count++;
	return 0;
}

int arguments_parse(int argc, char **argv, const char **recording_path)
{
	int err;

	*recording_path = NULL;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "recording=", 10)) {
			*recording_path = argv[i] + 10;
			continue;
		}
		err = strncmp(argv[i], "kernel=", 7) ? -EINVAL : kernel(argv[i] + 7);
		if (err)
			return err;
	}
	return 0;
}
