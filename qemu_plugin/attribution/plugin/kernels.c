// SPDX-License-Identifier: MIT
/* The kernels' functions that matter here, wherever KASLR has put them. */
#include "plugin.h"

/* The slide of a kernel whose `range`, as linked, would hold pc; false: by no slide it does. */
static bool slide_of(const struct range *range, uint64_t pc, uint64_t *slide)
{
	uint64_t within = (pc - range->begin) % KASLR_ALIGNMENT;

	if (!(pc & KERNEL_HALF) || within >= range->end - range->begin)
		return false;
	*slide = pc - range->begin - within;
	return true;
}

/*
 * A config write shows where its kernel is: its pc lies in a known function. So the one address of the jump
 * is known long before the jump, and no other code that has the same address modulo the alignment is taken
 * for it.
 */
void kernels_learn(uint64_t pc)
{
	for (unsigned int i = 0; i < plugin.kernel_count; i++) {
		struct kernel *kernel = &plugin.kernels[i];
		uint64_t slide;

		if (kernel->jump && (slide_of(&kernel->port_writer, pc, &slide) ||
				     slide_of(&kernel->ecam_writer, pc, &slide)))
			atomic_store_explicit(&kernel->jump_at, kernel->jump + slide, memory_order_relaxed);
	}
}

/* Whether every kernel that the guest may run has names. */
bool kernels_have_ecam_writers(void)
{
	for (unsigned int i = 0; i < plugin.kernel_count; i++)
		if (plugin.kernels[i].ecam_writer.begin == plugin.kernels[i].ecam_writer.end)
			return false;
	return plugin.kernel_count > 0;
}

/* Whether any of [begin, end) may be in a kernel's ECAM writer. */
bool kernels_is_ecam_writer(uint64_t begin, uint64_t end)
{
	for (unsigned int i = 0; i < plugin.kernel_count; i++) {
		struct range wide = plugin.kernels[i].ecam_writer;
		uint64_t slide;

		if (wide.begin == wide.end)
			continue;
		wide.begin -= end - 1 - begin;
		if (slide_of(&wide, begin, &slide))
			return true;
	}
	return false;
}

bool kernels_is_jump(uint64_t pc)
{
	for (unsigned int i = 0; i < plugin.kernel_count; i++)
		if (pc && pc == atomic_load_explicit(&plugin.kernels[i].jump_at, memory_order_relaxed))
			return true;
	return false;
}
