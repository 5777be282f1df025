/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LUSCOPE_INIT_H
#define LUSCOPE_INIT_H

int init_main(void);

#endif
