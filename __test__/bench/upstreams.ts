/** `upstreams.ts ADDRESS DEAD ADDRESS`: DNS servers that answer 192.0.2.7, and one between them that hears and says nothing. */
import { createSocket } from 'node:dgram';
import { decode, encode } from 'dns-packet';

const [first = '', dead = '', last = ''] = process.argv.slice(2);
for (const address of [first, dead, last]) {
  const socket = createSocket('udp4');
  socket.on('message', (message, { address: peer, port }) => {
    if (address === dead) return;
    const { id, questions = [] } = decode(message);
    const answers = questions.map(({ name }) => ({ type: 'A' as const, name, ttl: 0, data: '192.0.2.7' }));
    socket.send(encode({ type: 'response', id: id ?? 0, questions, answers }), port, peer);
  });
  socket.bind(53, address);
}
