/* SPDX-License-Identifier: MIT */
/*
 * vfio-user's messages as structures. VFIOU: QEMU 11.1 docs/interop/vfio-user.rst; the quoted word is its
 * heading. `qemu_plugin/vfio_user` has the same in Python, and tests hold the two against each other.
 */
#ifndef LUSCOPE_WIRE_H
#define LUSCOPE_WIRE_H

#include <stdint.h>

enum wire_command {			/* VFIOU 'Header' Commands */
	WIRE_VERSION = 1,
	WIRE_DMA_MAP = 2,
	WIRE_DMA_UNMAP = 3,
	WIRE_DEVICE_GET_INFO = 4,
	WIRE_DEVICE_GET_REGION_INFO = 5,
	WIRE_DEVICE_GET_REGION_IO_FDS = 6,
	WIRE_DEVICE_GET_IRQ_INFO = 7,
	WIRE_DEVICE_SET_IRQS = 8,
	WIRE_REGION_READ = 9,
	WIRE_REGION_WRITE = 10,
	WIRE_DMA_READ = 11,
	WIRE_DMA_WRITE = 12,
	WIRE_DEVICE_RESET = 13,
	WIRE_REGION_WRITE_MULTI = 15,
	WIRE_DEVICE_FEATURE = 16,
	WIRE_MIG_DATA_READ = 17,
	WIRE_MIG_DATA_WRITE = 18,
};

#define WIRE_TYPE_MASK 0xf		/* VFIOU 'Header' Flags */
#define WIRE_TYPE_COMMAND 0
#define WIRE_TYPE_REPLY 1
#define WIRE_NO_REPLY 0x10
#define WIRE_ERROR 0x20

struct wire_header {
	uint16_t id;
	uint16_t command;
	uint32_t size;			/* header included */
	uint32_t flags;
	uint32_t error;
};
_Static_assert(sizeof(struct wire_header) == 16, "VFIOU 'Header'");

struct wire_dma_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;
	uint64_t iova;
	uint64_t size;
};

struct wire_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t iova;
	uint64_t size;
};
/*
 * VFIOU 'DMA_UNMAP' says that flags are unused and that the range must match a mapping exactly. QEMU 11.1
 * hw/vfio-user/container.c sends this flag, and ranges that cover many mappings or none.
 */
#define WIRE_UNMAP_ALL 2

struct wire_device_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t num_regions;
	uint32_t num_irqs;
};
#define WIRE_DEVICE_RESETTABLE 1
#define WIRE_DEVICE_PCI 2

struct wire_region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;
};
#define WIRE_REGION_READABLE 1
#define WIRE_REGION_WRITEABLE 2
#define WIRE_REGIONS 9			/* linux include/uapi/linux/vfio.h VFIO_PCI_NUM_REGIONS */
#define WIRE_REGION_BARS 6
#define WIRE_REGION_CONFIG 7

struct wire_irq_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t count;
};
#define WIRE_IRQ_EVENTFD 1
#define WIRE_IRQ_MASKABLE 2
#define WIRE_IRQ_AUTOMASKED 4

enum wire_irq {				/* linux include/uapi/linux/vfio.h VFIO_PCI_*_IRQ_INDEX */
	WIRE_IRQ_INTX = 0,
	WIRE_IRQ_MSI = 1,
	WIRE_IRQ_MSIX = 2,
	WIRE_IRQ_ERR = 3,
	WIRE_IRQ_REQ = 4,
	WIRE_IRQS = 5,
};

struct wire_set_irqs {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
};
#define WIRE_SET_DATA_NONE 1
#define WIRE_SET_DATA_BOOL 2
#define WIRE_SET_DATA_EVENTFD 4
#define WIRE_SET_DATA_MASK 7
#define WIRE_SET_ACTION_MASK 8
#define WIRE_SET_ACTION_UNMASK 16
#define WIRE_SET_ACTION_TRIGGER 32
#define WIRE_SET_ACTIONS 56

struct wire_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

struct wire_multi_write {
	struct wire_access access;
	uint8_t data[8];
};

#define WIRE_FDS_MAX 16			/* what VERSION announces */
#define WIRE_DATA_MAX (1u << 16)
#define WIRE_MESSAGE_MAX (WIRE_DATA_MAX + 64)

#endif
