/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Which wire versions this agent speaks (design section 3). Version N talks to N-1, so that a fleet
 * is upgraded site by site: a message says the version that both sites speak, and items of kinds
 * that are new in a version go to sites that speak it, only.
 *
 * The few sources that ask are compiled again with other CHEOPS_WIRE_VERSIONs for the tests of
 * mixed fleets (tests/versions): a header that included this one would escape them.
 */
#ifndef CHP_WIRE_VERSION_H
#define CHP_WIRE_VERSION_H

#include <assert.h>

#ifndef CHEOPS_WIRE_VERSION
#define CHEOPS_WIRE_VERSION 2
#endif

enum {
    CHP_WIRE_VERSION = CHEOPS_WIRE_VERSION, /* highest */
    CHP_WIRE_VERSION_MIN = 1,
    CHP_WIRE_VERSION_BEAT = 1, /* in the header of beats, for ever */
};

static_assert(CHP_WIRE_VERSION_MIN <= CHP_WIRE_VERSION_BEAT,
              "who speaks no version in common is still heard, and can be named");

#endif
