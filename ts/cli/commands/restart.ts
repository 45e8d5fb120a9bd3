/** `caisson restart`. */
import { endEach } from '../eachContainer.ts';

export default endEach('restart', 'Restart containers');
