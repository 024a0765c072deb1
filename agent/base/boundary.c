/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/boundary.h"

void chp_boundary(const char *point)
{
    (void)point;
}
