/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Live Update Orchestrator's ioctls, as far as the agent uses them: include/uapi/linux/liveupdate.h
 * of Linux 7.3, in this project's own words because no distribution packages that header yet.
 * Each structure begins with its own size.
 */
#ifndef LUSCOPE_LIVEUPDATE_ABI_H
#define LUSCOPE_LIVEUPDATE_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LUO_DEVICE		"/dev/liveupdate"
#define LUO_NAME_BYTES		64	/* with its terminating zero */

/* On /dev/liveupdate, which has one opener at a time. */
#define LUO_CREATE_SESSION	_IO(0xba, 0x00)
#define LUO_RETRIEVE_SESSION	_IO(0xba, 0x01)

/* On a session. */
#define LUO_PRESERVE_FD		_IO(0xba, 0x40)
#define LUO_RETRIEVE_FD		_IO(0xba, 0x41)
#define LUO_FINISH		_IO(0xba, 0x42)

/* LUO_CREATE_SESSION, LUO_RETRIEVE_SESSION: name in, session fd out. */
struct luo_session_args {
	__u32	size;
	__s32	fd;
	__u8	name[LUO_NAME_BYTES];
};

/* LUO_PRESERVE_FD: fd and token in. LUO_RETRIEVE_FD: token in, fd out. */
struct luo_fd_args {
	__u32		size;
	__s32		fd;
	__aligned_u64	token;
};

/* LUO_FINISH. */
struct luo_finish_args {
	__u32	size;
	__u32	reserved;	/* zero */
};

#endif
