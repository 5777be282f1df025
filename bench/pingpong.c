// SPDX-License-Identifier: MIT
/* A bare request and reply over a UNIX socket: what a served access is compared with. */
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "pingpong.cdef"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int receive(int fd, uint8_t *buffer, uint32_t bytes)
{
	for (uint32_t have = 0; have < bytes;) {
		ssize_t n = recv(fd, buffer + have, bytes - have, 0);

		if (n <= 0)
			return n ? -errno : -ENODATA;
		have += (uint32_t)n;
	}
	return 0;
}

int pingpong_serve(int fd, uint32_t request_bytes, uint32_t reply_bytes)
{
	uint8_t request[256], reply[256] = { 0 };
	int err;

	for (;;) {
		err = receive(fd, request, request_bytes);
		if (err)
			return err;
		if (send(fd, reply, reply_bytes, MSG_NOSIGNAL) != (ssize_t)reply_bytes)
			return -errno;
	}
}

int64_t pingpong_call(int fd, const uint8_t *request, uint32_t request_bytes, uint32_t reply_bytes, uint64_t count)
{
	uint64_t began = now_ns();
	uint8_t reply[256];
	int err;

	for (uint64_t i = 0; i < count; i++) {
		if (send(fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes)
			return -errno;
		err = receive(fd, reply, reply_bytes);
		if (err)
			return err;
	}
	return (int64_t)(now_ns() - began);
}
