"""Every state that writers, a collection and time can bring a small repository into."""
