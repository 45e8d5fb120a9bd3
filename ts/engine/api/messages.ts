/** Sentences that the docker CLI or an SDK matches on, word for word. */
export const NOT_A_SWARM_MANAGER =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

export const noSuchImage = (reference: string): string => `No such image: ${reference}`;

export const noSuchContainer = (name: string): string => `No such container: ${name}`;

export const noSuchVolume = (name: string): string => `get ${name}: no such volume`;
