/* SPDX-License-Identifier: MIT */
/*
 * One served PCI function: its regions, its mappings, its interrupts, what gates them, its connection.
 *
 * Threads: the serving thread alone changes mappings, eventfds and the connection; stream threads and models
 * read mappings and raise interrupts. `lock` orders every transaction, interrupt, unmapping and change of
 * the gate, and every record of these is stamped while it is held.
 */
#ifndef LUSCOPE_ENGINE_H
#define LUSCOPE_ENGINE_H

#include "os.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "core.h"
#include "dma.h"
#include "recording.h"
#include "wire.h"

enum gate {				/* pydev/recording/format.py Gate */
	GATE_BUS_MASTER_OFF = 1,
	GATE_POWER_STATE = 2,
	GATE_IN_RESET = 4,
	GATE_INTERRUPTS_OFF = 8,
	GATE_FUNCTION_MASKED = 16,
	GATE_NO_CLIENT = 32,		/* this side's own; the others are the model's */
};
#define GATE_DMA (GATE_BUS_MASTER_OFF | GATE_POWER_STATE | GATE_IN_RESET | GATE_NO_CLIENT)
#define GATE_INTERRUPT (GATE_DMA | GATE_INTERRUPTS_OFF)

#define CONFIG_BYTES_MAX 4096
#define MSIX_VECTORS_MAX 2048		/* PCIe 6.0 7.7.2.2 Table Size */
#define RESETS_NOTED_MAX 8
#define RX_BYTES (2 * WIRE_MESSAGE_MAX)

struct irq {
	uint32_t count;
	int *eventfd;			/* owned fds, -1: none */
};

/* A message under way: what is needed once Python has answered. */
struct pending_access {
	struct wire_header header;
	struct wire_access access;
	uint64_t t_ns;
	uint64_t before;
	const uint8_t *multi;		/* the writes of a REGION_WRITE_MULTI that are still to do */
	uint64_t multi_left;
	uint64_t multi_count;
};

struct engine {
	pthread_mutex_t lock;		/* inherits priority: stream threads may be real-time */
	struct recording *rec;		/* borrowed; NULL: nothing is recorded */
	uint16_t function;
	_Atomic uint32_t gate;
	uint64_t interrupts;
	struct bank region[WIRE_REGIONS];
	uint8_t *pba;			/* borrowed: in a region's image; NULL: no MSI-X */
	struct irq irq[WIRE_IRQS];
	struct dma_table dma;

	int fd;				/* borrowed; -1: no client */
	bool is_negotiated;
	bool is_deciding;		/* a model: the resets that it notes are recorded behind the access */
	uint32_t have, pos;		/* rx[pos, have) is received and not yet parsed */
	int fds[WIRE_FDS_MAX];		/* owned until a message takes them */
	uint32_t fd_count;
	uint32_t fd_pos;		/* the last byte that was returned with them */
	bool is_fd_overflow;
	struct pending_access pending;
	struct request request;
	uint32_t reset_noted[RESETS_NOTED_MAX];
	uint32_t resets_noted;
	struct msghdr msg;
	struct iovec iov;
	uint8_t control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)] __attribute__((aligned(16)));
	uint8_t recorded[CONFIG_BYTES_MAX];	/* configuration space as the record has it */
	uint8_t rx[RX_BYTES] __attribute__((aligned(64)));
	uint8_t tx[WIRE_MESSAGE_MAX] __attribute__((aligned(64)));
};

static inline uint32_t engine_gates(struct engine *e)
{
	return atomic_load_explicit(&e->gate, memory_order_relaxed);
}

/* With the lock held. */
void gate_change_locked(struct engine *e, uint32_t set, uint32_t clear);
int interrupt_raise_locked(struct engine *e, uint32_t vector);
void interrupt_deliver_pending_locked(struct engine *e);

/* interrupt.c: SET_IRQS, with its fds; takes those that it keeps out of fds (-1 left). 0 or -errno. */
int interrupt_setup(struct engine *e, const uint8_t *payload, uint32_t bytes, int *fds, uint32_t fd_count);
void interrupt_disable_all_locked(struct engine *e);
uint32_t interrupt_eventfds(const struct engine *e);

/* connection.c */
int connection_receive(struct engine *e);
int connection_send(struct engine *e, const void *data, uint32_t bytes);
int connection_reply(struct engine *e, const struct wire_header *to, uint32_t payload_bytes);
int connection_reply_error(struct engine *e, const struct wire_header *to, int error);
void connection_drop_fds(struct engine *e);

/* region.c: 0 done, SERVE_ACCESS, or -errno for the reply. */
int region_read(struct engine *e, const struct wire_access *a, uint8_t *out);
int region_write(struct engine *e, const struct wire_access *a, const uint8_t *data);
int region_check(const struct engine *e, const struct wire_access *a);
void region_finish_read(struct engine *e, uint64_t value);
void region_finish_write(struct engine *e);
void region_finish_error(struct engine *e, int error);
void region_record_updates(struct engine *e, uint32_t skip_offset, uint32_t skip_bytes);

#endif
