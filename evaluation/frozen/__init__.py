"""Sets of texts that were written before the detectors were changed; a test holds their digest."""
