// SPDX-License-Identifier: MIT
/*
 * Bytes and fds of one connection.
 *
 * Messages arrive split and pipelined. The kernel ends a recvmsg after the segment that carried fds, so these
 * belong to the message that holds the last byte returned (linux net/unix/af_unix.c
 * unix_stream_read_generic), whole or not yet whole.
 */
#include "engine.h"

static void take_fds(struct engine *e)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&e->msg); c; c = CMSG_NXTHDR(&e->msg, c)) {
		uint32_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (uint32_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (e->fd_count < WIRE_FDS_MAX) {
				e->fds[e->fd_count++] = fd;
			} else {
				e->is_fd_overflow = true;
				close(fd);
			}
		}
		e->fd_pos = e->have - 1;
	}
	if (e->msg.msg_flags & MSG_CTRUNC) {
		e->is_fd_overflow = true;
		e->fd_pos = e->have - 1;
	}
}

void connection_drop_fds(struct engine *e)
{
	for (uint32_t i = 0; i < e->fd_count; i++)
		if (e->fds[i] >= 0)
			close(e->fds[i]);
	e->fd_count = 0;
	e->is_fd_overflow = false;
}

/*
 * How much to ask for. Everything there is, unless the unfinished message at hand has fds already: those of
 * the next message must not be taken for more of its own.
 */
static uint32_t wanted_bytes(const struct engine *e)
{
	const struct wire_header *h = (const struct wire_header *)e->rx;

	if (likely(!e->fd_count && !e->is_fd_overflow))
		return RX_BYTES - e->have;
	return (e->have < sizeof(*h) ? (uint32_t)sizeof(*h) : h->size) - e->have;
}

/* One recvmsg into the free end of rx. 0, -ENODATA: orderly end between messages, or -errno. */
int connection_receive(struct engine *e)
{
	long n;

	if (e->pos) {
		if (e->have > e->pos)
			memmove(e->rx, e->rx + e->pos, e->have - e->pos);
		if (e->fd_count || e->is_fd_overflow)
			e->fd_pos -= e->pos;
		e->have -= e->pos;
		e->pos = 0;
	}
	e->iov.iov_base = e->rx + e->have;
	e->iov.iov_len = wanted_bytes(e);
	do {
		e->msg.msg_iov = &e->iov;
		e->msg.msg_iovlen = 1;
		e->msg.msg_control = e->control;
		e->msg.msg_controllen = sizeof(e->control);
		n = os_call(SYS_recvmsg, e->fd, (long)&e->msg, MSG_CMSG_CLOEXEC, 0, 0, 0);
	} while (unlikely(n == -EINTR));
	if (unlikely(n <= 0))
		return n ? (int)n : e->have ? -ECONNRESET : -ENODATA;
	e->have += (uint32_t)n;
	if (unlikely(e->msg.msg_controllen || (e->msg.msg_flags & MSG_CTRUNC)))
		take_fds(e);
	return 0;
}

int connection_send(struct engine *e, const void *data, uint32_t bytes)
{
	const uint8_t *p = data;

	for (;;) {
		long n = os_call(SYS_sendto, e->fd, (long)p, bytes, MSG_NOSIGNAL, 0, 0);

		if (likely(n == (long)bytes))
			return 0;
		if (n < 0 && n != -EINTR)
			return (int)n;
		if (n > 0) {
			p += n;
			bytes -= (uint32_t)n;
		}
	}
}

/* The payload is in tx already, behind the header's place. */
int connection_reply(struct engine *e, const struct wire_header *to, uint32_t payload_bytes)
{
	struct wire_header *h = (struct wire_header *)e->tx;

	if (unlikely(to->flags & WIRE_NO_REPLY))
		return 0;
	h->id = to->id;
	h->command = to->command;
	h->size = (uint32_t)sizeof(*h) + payload_bytes;
	h->flags = WIRE_TYPE_REPLY;
	h->error = 0;
	return connection_send(e, h, h->size);
}

/* VFIOU 'Header': if an error occurs, the reply must only include the header. */
int connection_reply_error(struct engine *e, const struct wire_header *to, int error)
{
	struct wire_header h = {
		.id = to->id, .command = to->command, .size = sizeof(h),
		.flags = WIRE_TYPE_REPLY | WIRE_ERROR, .error = (uint32_t)(error < 0 ? -error : error),
	};

	return to->flags & WIRE_NO_REPLY ? 0 : connection_send(e, &h, sizeof(h));
}
