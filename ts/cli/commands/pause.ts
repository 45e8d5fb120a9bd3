/** `caisson pause`. */
import { eachContainer } from '../eachContainer.ts';

export default eachContainer(
  {
    name: 'pause',
    usage: 'CONTAINER [CONTAINER...]',
    summary: 'Freeze all processes of containers',
    flags: [],
    examples: ['caisson pause web'],
  },
  (containers, name) => containers.pause(name),
);
