// SPDX-License-Identifier: MIT
/*
 * Config writes by stores to the enhanced configuration access window (PCIe 6.0 7.2.2), as QEMU's q35 has it
 * (QEMU hw/pci/pcie_host.c). To look at every store would make the guest half as fast; so those are looked at
 * that can be config writes, and their physical address decides.
 */
#include "plugin.h"

#define MCH_BDF 0			/* QEMU hw/pci-host/q35.c: 00:00.0 */
#define PCIEXBAR 0x60
#define PCIEXBAR_BYTES 8
#define PCIEXBAR_ENABLE 1ull
#define PCIEXBAR_BASE (~0ull >> 28 & ~0ull << 26)

static uint8_t pciexbar[PCIEXBAR_BYTES];
static _Atomic uint64_t window_begin, window_end;

static void window_update(void)
{
	static const uint64_t bytes[] = { 256ull << 20, 128ull << 20, 64ull << 20, 0 };
	uint64_t value = load_bytes(pciexbar, PCIEXBAR_BYTES);
	uint64_t size = value & PCIEXBAR_ENABLE ? bytes[value >> 1 & 3] : 0;
	uint64_t begin = value & PCIEXBAR_BASE & ~(size - 1);

	atomic_store_explicit(&window_end, 0, memory_order_relaxed);
	atomic_store_explicit(&window_begin, begin, memory_order_release);
	atomic_store_explicit(&window_end, size ? begin + size : 0, memory_order_release);
}

/* The window is where the guest has put it: firmware, on one CPU. */
void ecam_note_write(const struct config_write *write)
{
	if (write->bdf != MCH_BDF || write->offset < PCIEXBAR ||
	    write->offset + write->width > PCIEXBAR + PCIEXBAR_BYTES)
		return;
	memcpy(pciexbar + write->offset - PCIEXBAR, &write->value, write->width);
	window_update();
}

static uint64_t stored(qemu_plugin_meminfo_t info, uint32_t *size)
{
	qemu_plugin_mem_value value = qemu_plugin_mem_get_value(info);

	*size = 1u << value.type;
	switch (value.type) {
	case 0:
		return value.data.u8;
	case 1:
		return value.data.u16;
	case 2:
		return value.data.u32;
	case 3:
		return value.data.u64;
	}
	*size = 0;	/* a vector: no candidate stores one */
	return 0;
}

/* When the store has been made. QEMU cuts it into aligned accesses of at most four bytes. */
static void on_store(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *pc)
{
	struct config_write write = { .pc = (uint64_t)pc, .way = WAY_ECAM };
	struct qemu_plugin_hwaddr *hwaddr;
	uint64_t gpa, value, begin;
	uint32_t size;

	if (!atomic_load_explicit(&window_end, memory_order_relaxed))
		return;
	hwaddr = qemu_plugin_get_hwaddr(info, vaddr);
	if (!hwaddr)
		return;
	gpa = qemu_plugin_hwaddr_phys_addr(hwaddr);
	begin = atomic_load_explicit(&window_begin, memory_order_relaxed);
	if (gpa < begin || gpa >= atomic_load_explicit(&window_end, memory_order_relaxed))
		return;
	write.t_ns = now_ns();
	value = stored(info, &size);
	while (size) {
		uint32_t width = 4;

		while (gpa % width || width > size)
			width /= 2;
		write.bdf = (uint16_t)((gpa - begin) >> 12);
		write.offset = gpa & 0xfff;
		write.width = (uint8_t)width;
		write.value = (uint32_t)(value & (~0ull >> (64 - 8 * width)));
		witness_write(vcpu, &write);
		gpa += width;
		value >>= 8 * width;
		size -= width;
	}
}

/* A store without string or stack instruction: mov to memory, its prefixes and ModRM taken apart. */
struct mov {
	uint8_t opcode;			/* without its lowest bit, the width: 0x88 register, 0xc6 immediate, 0xa2 absolute */
	uint8_t mod;
	uint8_t reg;
	uint8_t rm;
	uint8_t displacement;		/* mod 1 only */
};

static bool mov_decode(const uint8_t *code, size_t size, struct mov *mov)
{
	size_t i = 0;

	while (i < size && (code[i] == 0x66 || code[i] == 0x67 || (code[i] & 0xf0) == 0x40))
		i++;
	if (i + 2 > size)
		return false;
	*mov = (struct mov){
		.opcode = code[i] & 0xfe, .mod = code[i + 1] >> 6, .reg = code[i + 1] >> 3 & 7, .rm = code[i + 1] & 7,
		.displacement = i + 2 < size ? code[i + 2] : 0,
	};
	return mov->opcode == 0x88 || mov->opcode == 0xc6 || mov->opcode == 0xa2;
}

/*
 * linux arch/x86/include/asm/pci_x86.h mmio_config_write{b,w,l}: some hardware wants %eax, so that the compiler
 * has no choice: mov %al,(reg), mov %ax,(reg), mov %eax,(reg).
 */
static bool is_linux_store(const struct mov *mov)
{
	if (mov->opcode != 0x88 || mov->reg || mov->rm == 4)
		return false;
	return mov->mod == 0 ? mov->rm != 5 : mov->mod == 1 && mov->rm == 5 && !mov->displacement;
}

/* seabios src/hw/pci.c writes with its writeb, writew, writel, inlined; never to an element of an array. */
static bool is_firmware_store(const struct mov *mov)
{
	return mov->opcode == 0xa2 || (mov->mod != 3 && mov->rm != 4);
}

/* Whether a translated block may write config space. Firmware runs without paging, Linux in the upper half. */
bool ecam_is_place(uint64_t block, bool is_unpaged)
{
	if (is_unpaged)
		return true;
	if (kernels_have_ecam_writers())
		return kernels_is_ecam_writer(block, block + BLOCK_BYTES_MAX);
	return block & KERNEL_HALF;
}

/* Whether an instruction in such a block may. */
static bool is_candidate(const uint8_t *code, size_t size, uint64_t pc, bool is_unpaged)
{
	struct mov mov;

	if (!is_unpaged && kernels_have_ecam_writers())
		return kernels_is_ecam_writer(pc, pc + 1);
	return mov_decode(code, size, &mov) && (is_unpaged ? is_firmware_store(&mov) : is_linux_store(&mov));
}

void ecam_hook(struct qemu_plugin_insn *insn, const uint8_t *code, size_t size, uint64_t pc, bool is_unpaged)
{
	if (is_candidate(code, size, pc, is_unpaged))
		qemu_plugin_register_vcpu_mem_cb(insn, on_store, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_MEM_W,
						 (void *)pc);
}
