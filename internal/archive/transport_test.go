package archive_test

import "net/http"

// sharedTransport is one whose connections a test can close when it is done.
func sharedTransport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	transport.DisableCompression = true
	return transport
}
