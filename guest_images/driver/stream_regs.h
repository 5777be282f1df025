/* SPDX-License-Identifier: GPL-2.0-only */
/* Made from pydev.endpoints.stream_registers; change it there. */
#ifndef STREAM_H
#define STREAM_H
#define STREAM_ID_VALUE 0x4c555343u
#define STREAM_SIZE_BYTES 0x4000u

#define STREAM_ID 0x0u

#define STREAM_VERSION 0x4u

#define STREAM_CONTROL 0x8u
#define STREAM_CONTROL_RUN 0x1u
#define STREAM_CONTROL_INTERRUPT_ENABLE 0x2u

#define STREAM_STATUS 0xcu
#define STREAM_STATUS_RUNNING 0x1u
#define STREAM_STATUS_ERROR 0x2u

#define STREAM_PERIOD_NS 0x10u

#define STREAM_PAGE_COUNT 0x14u

#define STREAM_INTERRUPT_EVERY 0x18u

#define STREAM_VECTOR 0x1cu

#define STREAM_MAILBOX 0x20u

#define STREAM_GENERATION 0x28u

#define STREAM_DOORBELL 0x2cu

#define STREAM_SEQUENCE 0x30u

#define STREAM_WRITTEN 0x38u

#define STREAM_BLOCKED 0x40u

#define STREAM_INTERRUPTS 0x48u

#define STREAM_MAILBOX_VALUE 0x50u

#define STREAM_MARK 0x58u

#define STREAM_PAGE_TABLE(index) (0x1000u + 0x8u * (index))
#define STREAM_PAGE_TABLE_COUNT 512

#endif /* STREAM_H */
