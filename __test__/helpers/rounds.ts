/** How often an attack or a race is tried: a part of what it takes to be sure, and all of it with CAISSON_LONG. */
export const rounds = (part: number, all: number): number => (process.env['CAISSON_LONG'] ? all : part);
