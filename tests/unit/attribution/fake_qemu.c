// SPDX-License-Identifier: MIT
/*
 * A QEMU without a guest: it loads the plugin given first, with the arguments that follow, and plays what
 * standard input says, a line at a time (numbers in hexadecimal):
 *
 *	reg NAME VALUE			a register's value from now on
 *	memory ADDRESS BYTES		guest virtual memory that can be read
 *	run VCPU PC BYTES [load|store LOG2-SIZE VALUE GPA]...
 *					translates the instruction alone, then executes it with these accesses
 *
 * The end of input is the machine's end. What the plugin says of itself goes to standard error.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_api.h"

#define LINE_BYTES (1 << 16)
#define MANY 16

struct qemu_plugin_insn {
	uint64_t pc;
	uint8_t code[16];
	size_t size;
	qemu_plugin_vcpu_udata_cb_t on_exec;
	void *exec_data;
	qemu_plugin_vcpu_mem_cb_t on_mem;
	enum qemu_plugin_mem_rw rw;
	void *mem_data;
};
struct qemu_plugin_tb {
	struct qemu_plugin_insn insn;
};
struct qemu_plugin_register {
	const char *name;
	uint64_t value;
};
struct qemu_plugin_hwaddr {
	uint64_t gpa;
};
struct access {
	enum qemu_plugin_mem_rw rw;
	int shift;
	uint64_t value;
	struct qemu_plugin_hwaddr hwaddr;
};
struct memory {
	uint64_t begin;
	uint8_t *bytes;
	size_t size;
};

static struct qemu_plugin_register registers[] = {
	{ "rax", 0 }, { "rdx", 0 }, { "rsp", 0 }, { "rbp", 0 }, { "rip", 0 }, { "eflags", 2 },
	{ "cr0", 0x80000011 }, { "efer", 0x500 },
};
#define REGISTERS (sizeof(registers) / sizeof(*registers))
static struct memory memories[MANY];
static size_t memory_count;
static struct access accesses[MANY];

static qemu_plugin_vcpu_udata_cb_t on_vcpu;
static qemu_plugin_vcpu_tb_trans_cb_t on_translation;
static qemu_plugin_udata_cb_t on_exit_of_qemu;
static void *vcpu_data, *translation_data, *exit_data;

GByteArray *g_byte_array_new(void)
{
	return calloc(1, sizeof(GByteArray));
}

GByteArray *g_byte_array_set_size(GByteArray *array, unsigned int length)
{
	array->data = realloc(array->data, length + 64);
	array->len = length;
	return array;
}

char *g_array_free(GArray *array, int free_segment)
{
	if (free_segment)
		free(array->data);
	free(array);
	return NULL;
}

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_udata_cb_t cb, void *userdata)
{
	(void)id;
	on_vcpu = cb;
	vcpu_data = userdata;
}

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t cb, void *userdata)
{
	(void)id;
	on_translation = cb;
	translation_data = userdata;
}

void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, qemu_plugin_udata_cb_t cb, void *userdata)
{
	(void)id;
	on_exit_of_qemu = cb;
	exit_data = userdata;
}

void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, qemu_plugin_vcpu_udata_cb_t cb,
					    enum qemu_plugin_cb_flags flags, void *userdata)
{
	(void)flags;
	insn->on_exec = cb;
	insn->exec_data = userdata;
}

void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, qemu_plugin_vcpu_mem_cb_t cb,
				      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw, void *userdata)
{
	(void)flags;
	insn->on_mem = cb;
	insn->rw = rw;
	insn->mem_data = userdata;
}

uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb)
{
	return tb->insn.pc;
}

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb)
{
	(void)tb;
	return 1;
}

struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index)
{
	return index ? NULL : (struct qemu_plugin_insn *)&tb->insn;
}

uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn)
{
	return insn->pc;
}

size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn)
{
	return insn->size;
}

size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *bytes, size_t size)
{
	size = size < insn->size ? size : insn->size;
	memcpy(bytes, insn->code, size);
	return size;
}

GArray *qemu_plugin_get_registers(void)
{
	GArray *array = calloc(1, sizeof(*array));
	qemu_plugin_reg_descriptor *found = calloc(REGISTERS, sizeof(*found));

	for (size_t i = 0; i < REGISTERS; i++) {
		found[i].handle = &registers[i];
		found[i].name = registers[i].name;
	}
	array->data = (char *)found;
	array->len = REGISTERS;
	return array;
}

int qemu_plugin_read_register(struct qemu_plugin_register *handle, GByteArray *bytes)
{
	unsigned int length = bytes->len, more = strcmp(handle->name, "eflags") ? 8 : 4;

	g_byte_array_set_size(bytes, length + more);
	memcpy(bytes->data + length, &handle->value, more);
	return (int)more;
}

bool qemu_plugin_read_memory_vaddr(uint64_t vaddr, GByteArray *bytes, size_t size)
{
	for (size_t i = 0; i < memory_count; i++) {
		const struct memory *m = &memories[i];

		if (vaddr < m->begin || vaddr - m->begin > m->size || size > m->size - (vaddr - m->begin))
			continue;
		g_byte_array_set_size(bytes, (unsigned int)size);
		memcpy(bytes->data, m->bytes + (vaddr - m->begin), size);
		return true;
	}
	return false;
}

qemu_plugin_mem_value qemu_plugin_mem_get_value(qemu_plugin_meminfo_t info)
{
	qemu_plugin_mem_value value = { .type = accesses[info].shift };

	value.data.u64 = accesses[info].value;
	return value;
}

struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info, uint64_t vaddr)
{
	(void)vaddr;
	return &accesses[info].hwaddr;
}

uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *hwaddr)
{
	return hwaddr->gpa;
}

static void die(const char *what)
{
	fprintf(stderr, "fake_qemu: %s\n", what);
	exit(2);
}

static uint64_t number(void)
{
	const char *word = strtok(NULL, " \n");

	if (!word)
		die("a number is missing");
	return strtoull(word, NULL, 16);
}

static size_t bytes(uint8_t *into, size_t room)
{
	const char *word = strtok(NULL, " \n");
	size_t size = word ? strlen(word) / 2 : 0;
	unsigned int byte;

	if (!size || size > room)
		die("bytes are missing, or too many");
	for (size_t i = 0; i < size; i++) {
		sscanf(word + 2 * i, "%2x", &byte);
		into[i] = (uint8_t)byte;
	}
	return size;
}

static void set_register(void)
{
	const char *name = strtok(NULL, " \n");

	for (size_t i = 0; i < REGISTERS; i++)
		if (name && !strcmp(name, registers[i].name)) {
			registers[i].value = number();
			return;
		}
	die("no such register");
}

static void add_memory(void)
{
	struct memory *m = &memories[memory_count++];

	if (memory_count > MANY)
		die("too many memories");
	m->begin = number();
	m->bytes = malloc(LINE_BYTES);
	m->size = bytes(m->bytes, LINE_BYTES);
}

static size_t read_accesses(void)
{
	size_t count = 0;
	const char *verb;

	while ((verb = strtok(NULL, " \n"))) {
		if (count == MANY)
			die("too many accesses");
		accesses[count].rw = strcmp(verb, "load") ? QEMU_PLUGIN_MEM_W : QEMU_PLUGIN_MEM_R;
		accesses[count].shift = (int)number();
		accesses[count].value = number();
		accesses[count++].hwaddr.gpa = number();
	}
	return count;
}

static void run(void)
{
	unsigned int vcpu = (unsigned int)number();
	struct qemu_plugin_tb tb = { .insn.pc = number() };
	struct qemu_plugin_insn *insn = &tb.insn;
	size_t count;

	insn->size = bytes(insn->code, sizeof(insn->code));
	count = read_accesses();
	on_translation(&tb, translation_data);
	if (insn->on_exec)
		insn->on_exec(vcpu, insn->exec_data);
	for (size_t i = 0; insn->on_mem && i < count; i++)
		if (accesses[i].rw & insn->rw)
			insn->on_mem(vcpu, (qemu_plugin_meminfo_t)i, 0, insn->mem_data);
}

int main(int argc, char **argv)
{
	int (*install)(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);
	const qemu_info_t info = {
		.target_name = "x86_64", .version = { 7, 7 }, .system_emulation = true, .system = { 2, 2 },
	};
	static char line[LINE_BYTES];
	void *plugin = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;

	if (!plugin)
		die(argc > 1 ? dlerror() : "no plugin");
	install = (int (*)(qemu_plugin_id_t, const qemu_info_t *, int, char **))dlsym(plugin, "qemu_plugin_install");
	if (*(int *)dlsym(plugin, "qemu_plugin_version") != QEMU_PLUGIN_VERSION)
		die("another version");
	if (install(1, &info, argc - 2, argv + 2))
		return 1;
	on_vcpu(0, vcpu_data);
	on_vcpu(1, vcpu_data);
	while (fgets(line, sizeof(line), stdin)) {
		const char *verb = strtok(line, " \n");

		if (verb && !strcmp(verb, "reg"))
			set_register();
		else if (verb && !strcmp(verb, "memory"))
			add_memory();
		else if (verb && !strcmp(verb, "run"))
			run();
		else if (verb)
			die("no such verb");
	}
	on_exit_of_qemu(exit_data);
	return 0;
}
