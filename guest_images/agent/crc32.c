// SPDX-License-Identifier: GPL-2.0-only
/* CRC-32 as zlib computes it (reflected polynomial 0xedb88320, ISO 3309), a table of 256 words. */
#include "agent.h"

uint32_t crc32_update(uint32_t crc, const void *data, size_t size_bytes)
{
	static uint32_t table[256];
	const uint8_t *byte = data;

	if (!table[1]) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t word = i;

			for (int bit = 0; bit < 8; bit++)
				word = word >> 1 ^ (word & 1 ? 0xedb88320u : 0);
			table[i] = word;
		}
	}
	crc = ~crc;
	while (size_bytes--)
		crc = table[(crc ^ *byte++) & 0xff] ^ crc >> 8;
	return ~crc;
}
