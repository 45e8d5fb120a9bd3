/** `caisson restart`. */
import { endEach } from '../eachContainer.ts';

export const run = endEach('restart', 'Restart containers');
