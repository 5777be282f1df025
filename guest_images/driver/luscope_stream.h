/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/luscope-<domain>:<bus>:<device>.<function>: the ring of a stream endpoint, and its engine
 *
 * mmap() of offset 0 gives the ring's pages and one mailbox page behind them.
 */
#ifndef LUSCOPE_STREAM_ABI_H
#define LUSCOPE_STREAM_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LUSCOPE_STREAM_MAX_PAGES	512	/* what the endpoint's page table holds */
#define LUSCOPE_STREAM_NO_PAGE		(-1)

/* MSI-X vectors */
#define LUSCOPE_STREAM_VECTOR		0	/* the stream's, every so many slots */
#define LUSCOPE_STREAM_CATCH_UP_VECTOR	1	/* raised once after a live update */

/**
 * struct luscope_stream_setup - A new ring of zeroed pages, in place of the one that is there.
 * @pages:    Pages of the ring, 1 to LUSCOPE_STREAM_MAX_PAGES; the mailbox page comes on top.
 * @reserved: Zero.
 */
struct luscope_stream_setup {
	__u32 pages;
	__u32 reserved;
};

/**
 * struct luscope_stream_start - What the engine is to do.
 * @period_ns:       Time from slot to slot.
 * @interrupt_every: Slots from interrupt to interrupt; 0 is never.
 * @generation:      A number that every slot carries.
 * @reserved:        Zero.
 */
struct luscope_stream_start {
	__u32 period_ns;
	__u32 interrupt_every;
	__u32 generation;
	__u32 reserved;
};

/* luscope_stream_status.flags */
#define LUSCOPE_STREAM_RUNNING		0x1	/* the engine is at work */
#define LUSCOPE_STREAM_PRESERVED	0x2	/* the next kernel gets it as it is */
#define LUSCOPE_STREAM_INCOMING		0x4	/* the previous kernel's, not finished */
#define LUSCOPE_STREAM_INTERRUPTS	0x8	/* MSI-X is set up */

/**
 * struct luscope_stream_status - What the device says, and what the driver has seen.
 * @flags:           LUSCOPE_STREAM_*.
 * @pages:           Pages of the ring; 0 if there is none.
 * @sequence:        Device: sequence number of the next slot.
 * @written:         Device: slots that reached memory since its reset.
 * @blocked:         Device: slots that were refused since its reset.
 * @interrupts:      Device: interrupts the stream has raised since its reset.
 * @mailbox_value:   Device: what it last read from the mailbox page.
 * @interrupts_seen: Driver: interrupts of LUSCOPE_STREAM_VECTOR, in this kernel.
 * @catch_up_seen:   Driver: interrupts of LUSCOPE_STREAM_CATCH_UP_VECTOR, in this kernel.
 * @slots_seen:      Driver: slots that reached memory, as of the last interrupt.
 * @slots_caught_up: Driver: how many of those only the catch-up interrupt has told it of.
 * @error:           Why the retrieval from the previous kernel failed, or setting up MSI-X: an
 *                   errno, 0 if neither did.
 * @refused_page:    Index of the first page that the previous kernel did not hand over, the
 *                   ring's pages being followed by the mailbox; or LUSCOPE_STREAM_NO_PAGE.
 */
struct luscope_stream_status {
	__u32 flags;
	__u32 pages;
	__aligned_u64 sequence;
	__aligned_u64 written;
	__aligned_u64 blocked;
	__aligned_u64 interrupts;
	__aligned_u64 mailbox_value;
	__aligned_u64 interrupts_seen;
	__aligned_u64 catch_up_seen;
	__aligned_u64 slots_seen;
	__aligned_u64 slots_caught_up;
	__s32 error;
	__s32 refused_page;
};

/**
 * struct luscope_stream_frames - Where the ring is.
 * @frames: Address of an array of __u64, filled with page frame numbers: ring, then mailbox.
 * @count:  In: places of the array. Out: pages of ring and mailbox together.
 * @reserved: Zero.
 */
struct luscope_stream_frames {
	__aligned_u64 frames;
	__u32 count;
	__u32 reserved;
};

#define LUSCOPE_STREAM_SETUP	_IOW('L', 0xc0, struct luscope_stream_setup)
#define LUSCOPE_STREAM_START	_IOW('L', 0xc1, struct luscope_stream_start)
#define LUSCOPE_STREAM_STOP	_IO('L', 0xc2)
#define LUSCOPE_STREAM_STATUS	_IOR('L', 0xc3, struct luscope_stream_status)
#define LUSCOPE_STREAM_FRAMES	_IOWR('L', 0xc4, struct luscope_stream_frames)

#endif
