/* SPDX-License-Identifier: MIT */
/* The boundary's declarations for C: the same text that cffi reads. */
#ifndef LUSCOPE_CORE_H
#define LUSCOPE_CORE_H

#include <stdint.h>

#include "../core.cdef"

#endif
