// SPDX-License-Identifier: MIT
/* Bare requests and replies over a UNIX socket: what a served message is compared with. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pingpong.cdef"

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

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

/* One message with an fd, which is closed. */
static int receive_fd(int fd, uint8_t *buffer, uint32_t bytes)
{
	union control control;
	struct iovec iov = { buffer, bytes };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int passed;

	if (n != (ssize_t)bytes)
		return n < 0 ? -errno : -ENODATA;
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	memcpy(&passed, CMSG_DATA(c), sizeof(passed));
	close(passed);
	return 0;
}

static int request(int fd, const struct pingpong_message *m)
{
	union control control = { .header = {
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
	} };
	struct iovec iov = { (void *)(uintptr_t)m->request, m->request_bytes };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	ssize_t n;

	if (m->passed_fd < 0) {
		n = send(fd, m->request, m->request_bytes, MSG_NOSIGNAL);
	} else {
		memcpy(CMSG_DATA(&control.header), &m->passed_fd, sizeof(int));
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	}
	return n == (ssize_t)m->request_bytes ? 0 : n < 0 ? -errno : -EIO;
}

int pingpong_serve(int fd, const struct pingpong_message *messages, uint32_t message_count)
{
	uint8_t buffer[256], reply[256] = { 0 };
	int err;

	for (uint32_t i = 0;; i = i + 1 == message_count ? 0 : i + 1) {
		const struct pingpong_message *m = &messages[i];

		err = m->passed_fd < 0 ? receive(fd, buffer, m->request_bytes)
				       : receive_fd(fd, buffer, m->request_bytes);
		if (err)
			return err;
		if (send(fd, reply, m->reply_bytes, MSG_NOSIGNAL) != (ssize_t)m->reply_bytes)
			return -errno;
	}
}

int64_t pingpong_call(int fd, const struct pingpong_message *messages, uint32_t message_count, uint64_t count)
{
	uint64_t began = now_ns();
	uint8_t reply[256];

	for (uint64_t round = 0; round < count; round++) {
		for (uint32_t i = 0; i < message_count; i++) {
			int err = request(fd, &messages[i]);

			if (!err)
				err = receive(fd, reply, messages[i].reply_bytes);
			if (err)
				return err;
		}
	}
	return (int64_t)(now_ns() - began);
}
