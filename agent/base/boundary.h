/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Boundaries: the instants between two effects on the world (a commit, a message, a process, a
 * rename), at each of which this process may be killed and nothing may be lost or happen twice.
 *
 * chp_boundary does nothing. The tests link their programs with another one, which kills the
 * process at the point that they name (tests/dying/dying.c), and find the points by reading the
 * sources: an object of the program's own comes before the archive's. Rejected: #ifdef, which tests
 * a program that nobody runs.
 */
#ifndef CHP_BASE_BOUNDARY_H
#define CHP_BASE_BOUNDARY_H

/* point: "agent.<instant>" or "runner.<instant>", whose process it is. */
void chp_boundary(const char *point);

#endif
