// SPDX-License-Identifier: MIT
/*
 * Config writes by `out`: an address to port CF8, then data to CFC..CFF (PCI Local Bus 3.0 3.2.2.3.2), as
 * QEMU's host bridge takes them (QEMU hw/pci/pci_host.c pci_host_conf_le_ops, pci_host_data_le_ops): only a
 * dword to CF8 sets the address; an access that is not aligned to its width is dropped.
 */
#include "plugin.h"

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define ENABLE (1u << 31)

#define CR0_PE (1ull << 0)
#define EFLAGS_VM (1ull << 17)
#define EFER_LMA (1ull << 10)

/* One for the machine, as the host bridge has it, whichever CPU writes. */
static _Atomic uint32_t address_latch;

static void ports_write(unsigned int vcpu, uint64_t pc, uint32_t port, uint32_t width, uint64_t value)
{
	struct config_write write = {
		.t_ns = now_ns(), .pc = pc, .value = (uint32_t)value, .width = (uint8_t)width, .way = WAY_PORTS,
	};
	uint32_t latch;

	if (port == ADDRESS_PORT) {
		if (width == 4)
			atomic_store_explicit(&address_latch, (uint32_t)value, memory_order_relaxed);
		return;
	}
	latch = atomic_load_explicit(&address_latch, memory_order_relaxed);
	if (!(latch & ENABLE) || port % width)
		return;
	write.bdf = (uint16_t)(latch >> 8);
	write.offset = (uint16_t)((latch & 0xff) | (port & 3));
	witness_write(vcpu, &write);
}

/* Intel SDM 3 3.4.5, "D/B flag": the operand size that code has without a prefix. */
static bool is_16_bit(uint64_t pc)
{
	if (!(vcpu_register(REG_CR0) & CR0_PE))
		return true;
	if (vcpu_register(REG_EFER) & EFER_LMA)
		return false;
	/*
	 * The descriptor is out of reach. 32-bit code is flat; a segment with a base is the firmware's for 16 bits.
	 * QEMU knows rip as it was where the translated block begins, at most two pages back.
	 */
	return vcpu_register(REG_EFLAGS) & EFLAGS_VM ||
	       pc - vcpu_register(REG_RIP) >= BLOCK_BYTES_MAX;
}

static uint32_t selected_port(void)
{
	uint32_t port = (uint16_t)vcpu_register(REG_RDX);

	return port == ADDRESS_PORT || (port & ~3u) == DATA_PORT ? port : 0;
}

static void on_out(unsigned int vcpu, uint64_t pc, bool is_byte, bool is_prefixed)
{
	uint32_t port = selected_port(), width;
	uint64_t value;

	if (!port)
		return;
	width = is_byte ? 1 : is_16_bit(pc) == is_prefixed ? 4 : 2;
	value = vcpu_register(REG_RAX) & (~0ull >> (64 - 8 * width));
	ports_write(vcpu, pc, port, width, value);
}

/* The instruction's address is all that a callback is given, so each encoding has its own. */
static void on_out_byte(unsigned int vcpu, void *pc)
{
	on_out(vcpu, (uint64_t)pc, true, false);
}

static void on_out_plain(unsigned int vcpu, void *pc)
{
	on_out(vcpu, (uint64_t)pc, false, false);
}

static void on_out_prefixed(unsigned int vcpu, void *pc)
{
	on_out(vcpu, (uint64_t)pc, false, true);
}

/* `outs`, with `rep` or without: once for each element, when it has been read. */
static void on_outs(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *pc)
{
	uint32_t port = selected_port();
	qemu_plugin_mem_value element;

	(void)vaddr;
	if (!port)
		return;
	element = qemu_plugin_mem_get_value(info);
	if (element.type == 0)
		ports_write(vcpu, (uint64_t)pc, port, 1, element.data.u8);
	else if (element.type == 1)
		ports_write(vcpu, (uint64_t)pc, port, 2, element.data.u16);
	else
		ports_write(vcpu, (uint64_t)pc, port, 4, element.data.u32);
}

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:	/* segments */
	case 0x66: case 0x67:							/* operand, address size */
	case 0xf0: case 0xf2: case 0xf3:					/* lock, repne, rep */
	case 0x40 ... 0x4f:							/* REX; without operands in 32-bit code */
		return true;
	}
	return false;
}

/* `out %al, $imm8` and its like reach no port above 0xff. Returns whether the instruction was one of these. */
bool ports_hook(struct qemu_plugin_insn *insn, const uint8_t *code, size_t size, uint64_t pc)
{
	bool is_prefixed = false;
	size_t i;

	for (i = 0; i + 1 < size && is_prefix(code[i]); i++)
		is_prefixed |= code[i] == 0x66;
	if (i + 1 != size)
		return false;
	switch (code[i]) {
	case 0xee:	/* out %al, (%dx) */
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_out_byte, QEMU_PLUGIN_CB_R_REGS, (void *)pc);
		return true;
	case 0xef:	/* out %eax, (%dx) */
		qemu_plugin_register_vcpu_insn_exec_cb(insn, is_prefixed ? on_out_prefixed : on_out_plain,
						       QEMU_PLUGIN_CB_R_REGS, (void *)pc);
		return true;
	case 0x6e:	/* outsb */
	case 0x6f:	/* outsl */
		qemu_plugin_register_vcpu_mem_cb(insn, on_outs, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_MEM_R,
						 (void *)pc);
		return true;
	}
	return false;
}
