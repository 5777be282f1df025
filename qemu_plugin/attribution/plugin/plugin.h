/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin that appends every config write of the guest, with its width and its writer's stack, to the
 * recording that the bench and the server append to. QEMU calls it from its vCPU threads, several at a time.
 */
#ifndef LUSCOPE_PLUGIN_H
#define LUSCOPE_PLUGIN_H

#include "recording.h"

#include "qemu_api.h"

#define KERNELS_MAX 4
#define KERNEL_HALF (1ull << 63)
#define BLOCK_BYTES_MAX 8192		/* a translated block is in at most two pages: QEMU docs/devel/tcg.rst */
#define KASLR_ALIGNMENT (2ull << 20)	/* linux arch/x86/Kconfig PHYSICAL_ALIGN, 64-bit */

/* Half-open; empty: unknown. */
struct range {
	uint64_t begin;
	uint64_t end;
};

/* A kernel image that the guest may run: link addresses, from its symbols. */
struct kernel {
	struct range port_writer;	/* linux arch/x86/pci/direct.c pci_conf1_write */
	struct range ecam_writer;	/* linux arch/x86/pci/mmconfig_64.c pci_mmcfg_write */
	uint64_t jump;			/* linux arch/x86/kernel/machine_kexec_64.c machine_kexec; 0: unknown */
	_Atomic uint64_t jump_at;	/* where it was loaded to, once a write has told; 0: not yet */
};

enum reg {
	REG_RSP,
	REG_RBP,
	REG_RAX,
	REG_RDX,
	REG_RIP,
	REG_EFLAGS,
	REG_CR0,
	REG_EFER,
	REG_COUNT,
};

struct plugin {
	recording *rec;
	struct qemu_plugin_register *regs[REG_COUNT];	/* the same for all vCPUs, which are of one model */
	struct kernel kernels[KERNELS_MAX];
	unsigned int kernel_count;
	_Atomic uint64_t appended;	/* PLUGIN_WRITEs */
	_Atomic uint64_t refused;	/* writes for which the recording had no room */
};
extern struct plugin plugin;

/* One config write, as the guest makes it. */
struct config_write {
	uint64_t t_ns;
	uint64_t pc;
	uint32_t value;
	uint16_t bdf;
	uint16_t offset;
	uint8_t width;
	uint8_t way;
};

enum way {				/* pydev/recording/format.py PluginWay */
	WAY_PORTS = 0,
	WAY_ECAM = 1,
};

/* arguments.c: "recording=PATH" and, for each image, "kernel=BEGIN-END:BEGIN-END:JUMP" in hexadecimal. */
int arguments_parse(int argc, char **argv, const char **recording_path);

/* kernels.c */
void kernels_learn(uint64_t pc);
bool kernels_have_ecam_writers(void);
bool kernels_is_ecam_writer(uint64_t begin, uint64_t end);
bool kernels_is_jump(uint64_t pc);

/* ports.c: instructions are at most this long, unless prefixes are repeated */
#define PORT_CODE_BYTES_MAX 4
bool ports_hook(struct qemu_plugin_insn *insn, const uint8_t *code, size_t size, uint64_t pc);

/* ecam.c */
void ecam_note_write(const struct config_write *write);
bool ecam_is_place(uint64_t block, bool is_unpaged);
void ecam_hook(struct qemu_plugin_insn *insn, const uint8_t *code, size_t size, uint64_t pc, bool is_unpaged);

/* witness.c */
uint64_t vcpu_register(enum reg reg);	/* of the vCPU that QEMU has called the plugin from */
void witness_write(unsigned int vcpu, const struct config_write *write);
void witness_jump(unsigned int vcpu, uint64_t pc);
void witness_end(void);

#endif
