/** `caisson unpause`. */
import { eachContainer } from '../eachContainer.ts';

export default eachContainer(
  {
    name: 'unpause',
    usage: 'CONTAINER [CONTAINER...]',
    summary: 'Let frozen containers go on',
    flags: [],
    examples: ['caisson unpause web'],
  },
  (containers, name) => containers.unpause(name),
);
