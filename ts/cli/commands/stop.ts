/** `caisson stop`. */
import { endEach } from '../eachContainer.ts';

export default endEach('stop', 'Stop containers');
