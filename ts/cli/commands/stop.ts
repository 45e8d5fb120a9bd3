/** `caisson stop`. */
import { endEach } from '../eachContainer.ts';

export const run = endEach('stop', 'Stop containers');
