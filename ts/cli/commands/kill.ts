/** `caisson kill`. */
import { eachContainer } from '../eachContainer.ts';

export default eachContainer<{ signal?: string }>(
  {
    name: 'kill',
    usage: '[OPTIONS] CONTAINER [CONTAINER...]',
    summary: 'Send a signal to containers',
    flags: [['-s, --signal <signal>', 'Signal to send (KILL)']],
    examples: ['caisson kill -s HUP web'],
  },
  (containers, name, { signal }) => containers.kill(name, signal),
);
