"""Knowledge files that come with Ottla; README.md says where they are from."""
