// SPDX-License-Identifier: GPL-2.0-only
/*
 * The line protocol with the host: one JSON object a line, {"seq":N,...,"crc":"%08x"}, where crc is
 * the CRC-32 of every byte before ,"crc": and seq counts from 1 per direction and boot. Lines to
 * the host are written as they are made, with a running CRC, so that their length has no limit.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"

#define TAIL_BYTES	18	/* ,"crc":"01234567"} */

static int channel_fd = -1;	/* owned, for the life of the process */
static uint64_t sent_seq, received_seq;
static uint32_t sent_crc;
static char out[1024], in[4096];
static size_t out_bytes, in_start, in_end;

static int make_raw(int fd)
{
	struct termios mode;

	if (tcgetattr(fd, &mode))
		return -errno;
	cfmakeraw(&mode);
	cfsetspeed(&mode, B115200);
	mode.c_cflag |= CLOCAL | CREAD;
	mode.c_cflag &= ~CRTSCTS;
	mode.c_cc[VMIN] = 1;
	mode.c_cc[VTIME] = 0;
	return tcsetattr(fd, TCSANOW, &mode) ? -errno : 0;
}

/* @where is a path or, for an inherited descriptor, "fd:N". */
int channel_open(const char *where)
{
	if (!strncmp(where, "fd:", 3))
		channel_fd = atoi(where + 3);
	else
		channel_fd = open(where, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (channel_fd < 0 || fcntl(channel_fd, F_GETFD) < 0)
		return -errno;
	return isatty(channel_fd) ? make_raw(channel_fd) : 0;
}

/* Without the host the agent has no purpose: a write that fails ends it, and init says so. */
static void flush(void)
{
	size_t done = 0;

	while (done < out_bytes) {
		ssize_t got = write(channel_fd, out + done, out_bytes - done);

		if (got < 0 && errno != EINTR) {
			fprintf(stderr, "luscope: agent cannot write to its channel: %s\n", strerror(errno));
			exit(4);
		}
		if (got > 0)
			done += got;
	}
	out_bytes = 0;
}

/* Returns when the last byte has left the UART. */
void channel_drain(void)
{
	flush();
	tcdrain(channel_fd);
}

static void put_bytes(const char *bytes, size_t size_bytes)
{
	sent_crc = crc32_update(sent_crc, bytes, size_bytes);
	while (size_bytes) {
		size_t part = sizeof(out) - out_bytes;

		if (part > size_bytes)
			part = size_bytes;
		memcpy(out + out_bytes, bytes, part);
		out_bytes += part;
		bytes += part;
		size_bytes -= part;
		if (out_bytes == sizeof(out))
			flush();
	}
}

void put_text(const char *format, ...)
{
	char text[128];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	put_bytes(text, length < (int)sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

/* Bytes that are not printable ASCII go out as \u00xx: a name from the kernel may hold anything. */
void put_quoted(const char *value)
{
	put_bytes("\"", 1);
	for (; *value; value++) {
		unsigned char c = *value;

		if (c == '"' || c == '\\')
			put_text("\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			put_text("\\u%04x", c);
		else
			put_bytes(value, 1);
	}
	put_bytes("\"", 1);
}

void put_key(const char *key)
{
	put_text(",\"%s\":", key);
}

void put_u64(const char *key, uint64_t value)
{
	put_key(key);
	put_text("%llu", (unsigned long long)value);
}

void put_bool(const char *key, bool value)
{
	put_key(key);
	put_text(value ? "true" : "false");
}

void put_string(const char *key, const char *value)
{
	put_key(key);
	put_quoted(value);
}

void put_hex(const char *key, uint32_t value)
{
	put_key(key);
	put_text("\"%08x\"", value);
}

void line_begin(void)
{
	sent_crc = 0;
	put_text("{\"seq\":%llu", (unsigned long long)++sent_seq);
	put_u64("t_ns", now_ns());
}

void line_end(void)
{
	uint32_t crc = sent_crc;

	put_text(",\"crc\":\"%08x\"}\n", crc);
	flush();
}

void event_begin(const char *name)
{
	line_begin();
	put_string("event", name);
}

static void put_error(int error, const char *format, va_list arguments)
{
	char what[256];

	vsnprintf(what, sizeof(what), format, arguments);
	put_string("what", what);
	put_u64("errno", error);
}

void event_error(int error, const char *format, ...)
{
	va_list arguments;

	event_begin("error");
	va_start(arguments, format);
	put_error(error, format, arguments);
	va_end(arguments);
	line_end();
}

/* A line of which not even the sequence number can be trusted: the host gets no reply to it. */
static int refuse_line(int error, const char *format, ...)
{
	va_list arguments;

	event_begin("error");
	va_start(arguments, format);
	put_error(error, format, arguments);
	va_end(arguments);
	put_bool("unanswered", true);
	line_end();
	return -error;
}

static int fill_input(int timeout_ms)
{
	struct pollfd ready = { .fd = channel_fd, .events = POLLIN };
	ssize_t got;

	do {
		got = poll(&ready, 1, timeout_ms);
		if (!got)
			return -ETIMEDOUT;
		if (got > 0)
			got = read(channel_fd, in, sizeof(in));
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (!got)
		return -EPIPE;
	in_start = 0;
	in_end = got;
	return 0;
}

/* Reads up to a newline; *length_bytes may exceed the capacity, and then the rest was dropped. */
static int read_line(char *line, size_t capacity_bytes, int timeout_ms, size_t *length_bytes)
{
	*length_bytes = 0;
	for (;;) {
		int error = in_start < in_end ? 0 : fill_input(timeout_ms);
		char c;

		if (error)
			return error;
		c = in[in_start++];
		if (c == '\n')
			return 0;
		if (*length_bytes < capacity_bytes)
			line[*length_bytes] = c;
		(*length_bytes)++;
	}
}

static int check_tail(char *line, size_t length_bytes)
{
	size_t body = length_bytes - TAIL_BYTES;
	uint32_t crc, said;
	char expected[TAIL_BYTES + 1];

	if (length_bytes < TAIL_BYTES || memcmp(line + body, ",\"crc\":\"", 8))
		return refuse_line(EBADMSG, "host line of %zu bytes does not end in a crc", length_bytes);
	crc = crc32_update(0, line, body);
	snprintf(expected, sizeof(expected), ",\"crc\":\"%08x\"}", crc);
	if (memcmp(line + body, expected, TAIL_BYTES)) {
		line[length_bytes] = '\0';
		said = strtoul(line + body + 8, NULL, 16);
		return refuse_line(EBADMSG, "host line of %zu bytes has crc %08x and says %08x",
				   length_bytes, crc, said);
	}
	line[body] = '}';
	line[body + 1] = '\0';
	return 0;
}

static int take_sequence(const struct json_object *request, uint64_t *seq)
{
	const struct json_member *member = json_find(request, "seq");
	uint64_t expected = received_seq + 1;

	if (!member || member->string)
		return refuse_line(EBADMSG, "host line has no \"seq\"");
	*seq = member->number;
	if (*seq > received_seq)
		received_seq = *seq;
	if (*seq != expected)
		return fail(EPROTO, "host line has seq %llu where %llu was due", (unsigned long long)*seq,
			    (unsigned long long)expected);
	return 0;
}

/*
 * Waits for one line. -EBADMSG, -EMSGSIZE: refused and reported; -EPROTO: out of sequence, *seq is
 * valid and a reply is owed; -ETIMEDOUT; -EPIPE: the host has closed the channel.
 */
int channel_receive(char *line, size_t capacity_bytes, int timeout_ms, struct json_object *request,
		    uint64_t *seq)
{
	const char *why = "";
	size_t length_bytes;
	int error;

	do {
		error = read_line(line, capacity_bytes - 1, timeout_ms, &length_bytes);
		if (error)
			return error;
	} while (!length_bytes);
	if (length_bytes > capacity_bytes - 1)
		return refuse_line(EMSGSIZE, "host line of %zu bytes is longer than %zu", length_bytes,
				   capacity_bytes - 1);
	error = check_tail(line, length_bytes);
	if (error)
		return error;
	if (json_parse(line, request, &why))
		return refuse_line(EBADMSG, "host line is malformed: %s", why);
	return take_sequence(request, seq);
}
