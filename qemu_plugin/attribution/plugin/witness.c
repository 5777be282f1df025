// SPDX-License-Identifier: MIT
/* What is put on record of a vCPU that writes: its stack, raw; unwinding is done after the run. */
#include "plugin.h"

#define THREAD_BYTES (16ull << 10)	/* linux arch/x86/include/asm/page_64_types.h THREAD_SIZE, and its alignment */
/* The deepest that was seen below a config write is 2 KiB in a small kernel, 2.8 KiB in a distribution's. */
#define STACK_BYTES_MAX 4096

/* pydev/recording/format.py PLUGIN_STACK */
struct stack {
	uint64_t rsp;
	uint64_t rbp;
	uint8_t memory[STACK_BYTES_MAX];
};

/* What QEMU answers into: one for each thread, kept for its life. */
static GByteArray *answer(void)
{
	static __thread GByteArray *bytes;

	if (!bytes)
		bytes = g_byte_array_new();
	return g_byte_array_set_size(bytes, 0);
}

uint64_t vcpu_register(enum reg reg)
{
	GByteArray *bytes = answer();
	uint64_t value = 0;

	if (plugin.regs[reg])
		qemu_plugin_read_register(plugin.regs[reg], bytes);
	memcpy(&value, bytes->data, bytes->len < sizeof(value) ? bytes->len : sizeof(value));
	return value;
}

/* Returns how many bytes of `stack` are filled. Firmware and user space have no stack that could be unwound. */
static uint32_t stack_read(struct stack *stack)
{
	GByteArray *memory;
	uint64_t bytes;

	stack->rsp = vcpu_register(REG_RSP);
	stack->rbp = vcpu_register(REG_RBP);
	if (!(stack->rsp & KERNEL_HALF))
		return offsetof(struct stack, memory);
	bytes = THREAD_BYTES - stack->rsp % THREAD_BYTES;
	if (bytes > STACK_BYTES_MAX)
		bytes = STACK_BYTES_MAX;
	memory = answer();
	if (!qemu_plugin_read_memory_vaddr(stack->rsp, memory, bytes))
		return offsetof(struct stack, memory);
	memcpy(stack->memory, memory->data, bytes);
	return (uint32_t)(offsetof(struct stack, memory) + bytes);
}

static int append(const struct event *event)
{
	struct stack stack;
	uint32_t size = stack_read(&stack);

	return recording_append_text(plugin.rec, event, (const uint8_t *)&stack, size);
}

void witness_write(unsigned int vcpu, const struct config_write *write)
{
	struct event event = {
		.t_ns = write->t_ns, .kind = KIND_PLUGIN_WRITE, .function = NO_FUNCTION, .error = write->width,
		.region = write->bdf, .address = write->offset, .value = write->value, .extra = write->pc,
		.aux = vcpu | (uint64_t)write->way << 16,
	};

	if (append(&event))
		atomic_fetch_add_explicit(&plugin.refused, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&plugin.appended, 1, memory_order_relaxed);
	kernels_learn(write->pc);
	ecam_note_write(write);
}

void witness_jump(unsigned int vcpu, uint64_t pc)
{
	struct event event = {
		.t_ns = now_ns(), .kind = KIND_PLUGIN_JUMP, .function = NO_FUNCTION, .extra = pc, .aux = vcpu,
	};

	append(&event);
}

void witness_end(void)
{
	struct event event = {
		.kind = KIND_PLUGIN_END, .function = NO_FUNCTION, .value = atomic_load(&plugin.appended),
		.extra = atomic_load(&plugin.refused),
	};

	recording_append(plugin.rec, &event);
}
