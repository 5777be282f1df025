// SPDX-License-Identifier: MIT
/* The recording's writer, compiled once more: with this object's flags, so that QEMU sees none of its names. */
#include "recording.c"
