// SPDX-License-Identifier: MIT
/* What QEMU calls: loading, each vCPU, each translation, the end. */
#include "plugin.h"

#define CODE_BYTES_MAX 15		/* Intel SDM 2 2.3.11 */
#define CR0_PG (1ull << 31)

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;
QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

struct plugin plugin;

static const char *const register_names[REG_COUNT] = {
	[REG_RSP] = "rsp", [REG_RBP] = "rbp", [REG_RAX] = "rax", [REG_RDX] = "rdx", [REG_RIP] = "rip",
	[REG_EFLAGS] = "eflags", [REG_CR0] = "cr0", [REG_EFER] = "efer",
};

static void on_vcpu(unsigned int vcpu, void *unused)
{
	GArray *registers = qemu_plugin_get_registers();
	const qemu_plugin_reg_descriptor *found = (const void *)registers->data;

	(void)unused;
	(void)vcpu;
	for (unsigned int i = 0; i < registers->len; i++)
		for (int reg = 0; reg < REG_COUNT; reg++)
			if (!strcmp(found[i].name, register_names[reg]))
				plugin.regs[reg] = found[i].handle;
	g_array_free(registers, 1);
}

static void on_jump(unsigned int vcpu, void *pc)
{
	witness_jump(vcpu, (uint64_t)pc);
}

static void on_translation(struct qemu_plugin_tb *tb, void *unused)
{
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint64_t begin = qemu_plugin_tb_vaddr(tb);
	bool is_unpaged = begin <= UINT32_MAX && !(vcpu_register(REG_CR0) & CR0_PG);
	bool is_ecam_place = ecam_is_place(begin, is_unpaged);

	(void)unused;
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t size = qemu_plugin_insn_size(insn);
		uint64_t pc = qemu_plugin_insn_vaddr(insn);
		uint8_t code[CODE_BYTES_MAX];

		if (kernels_is_jump(pc))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_jump, QEMU_PLUGIN_CB_R_REGS, (void *)pc);
		/* Every instruction that is ever run comes by here: most are told by their size alone. */
		if (size > PORT_CODE_BYTES_MAX && !is_ecam_place)
			continue;
		size = qemu_plugin_insn_data(insn, code, sizeof(code));
		if (!ports_hook(insn, code, size, pc) && is_ecam_place)
			ecam_hook(insn, code, size, pc, is_unpaged);
	}
}

static void on_ending(void *unused)
{
	(void)unused;
	witness_end();
}

static int fail(const char *what)
{
	ssize_t ignored = write(STDERR_FILENO, what, strlen(what));

	(void)ignored;
	return -1;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path;

	if (!info->system_emulation || strcmp(info->target_name, "x86_64"))
		return fail("luscope: the plugin understands x86_64 machines only\n");
	if (arguments_parse(argc, argv, &path))
		return fail("luscope: arguments that the plugin does not understand\n");
	if (!path)	/* a trial: QEMU ends, having shown that it takes plugins of this version */
		return fail("luscope: the plugin can be loaded\n");
	if (recording_map(path, &plugin.rec))
		return fail("luscope: the plugin cannot attach to the recording\n");
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation, NULL);
	qemu_plugin_register_atexit_cb(id, on_ending, NULL);
	return 0;
}
