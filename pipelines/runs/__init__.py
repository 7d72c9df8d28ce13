"""What a job writes: folders of versions and runs, and the records in them."""
