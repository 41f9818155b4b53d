package ortlib

// Pin is what Install accepts from a channel on a platform: nothing but these bytes.
type Pin struct {
	Channel  Channel
	Version  string
	Platform Platform
	// Archive is the SHA-256 of the package file, in hexadecimal; "" for the Module channel, whose archive go.sum
	// verifies.
	Archive string
	// Files maps the name of each installed file to its SHA-256: the library and what lies beside it.
	Files map[string]string
}

// library is the digest of the main library.
func (p Pin) library() string {
	name, _ := p.Platform.libraryName(p.Version)
	return p.Files[name]
}

// Pins lists what is pinned. Every digest was computed from the package as its client delivers it: npm pack of
// onnxruntime-node 1.30.0; pip download of the CPython 3.12 wheels of onnxruntime 1.30.0 (the Linux libraries are the
// same bytes in the wheels of every Python version, those of macOS and Windows are not); the module zip of
// onnxruntime_go v1.27.0. Neither package has a library for macOS on amd64.
func Pins() []Pin {
	return []Pin{
		{
			Channel: NPM, Version: "1.30.0", Platform: Platform{"linux", "amd64"},
			Archive: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75",
			Files: map[string]string{
				"libonnxruntime.so.1.30.0": "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23",
			},
		},
		{
			Channel: NPM, Version: "1.30.0", Platform: Platform{"linux", "arm64"},
			Archive: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75",
			Files: map[string]string{
				"libonnxruntime.so.1.30.0": "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76",
			},
		},
		{
			Channel: NPM, Version: "1.30.0", Platform: Platform{"darwin", "arm64"},
			Archive: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75",
			Files: map[string]string{
				"libonnxruntime.1.30.0.dylib": "685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d",
			},
		},
		{
			Channel: NPM, Version: "1.30.0", Platform: Platform{"windows", "amd64"},
			Archive: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75",
			Files: map[string]string{
				"onnxruntime.dll": "508c362f5673483dd3a086379c392795b2e42d10d5e6f3f90ebd7ac21c97af67",
				"DirectML.dll":    "234e8898778cdec88d3cb0539508273494082812c968699f3de665a018971625",
				"dxcompiler.dll":  "593d42df78c7f9cbd97c1374af107cfe20985759f98b77afc1448fe41ee3cc76",
				"dxil.dll":        "cf9a3981263f8ec30c9905d136eeaf4b4573209c602198671b958ec86905dea8",
			},
		},
		{
			Channel: NPM, Version: "1.30.0", Platform: Platform{"windows", "arm64"},
			Archive: "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75",
			Files: map[string]string{
				"onnxruntime.dll": "6c3a2abf5c6aca11c48a0d338a91af309f2266f25ce2e4084e6a87bbcb0fbfd0",
				"DirectML.dll":    "aaf72a9d55aa123e0708d957d30dd4fbeb7a2e335ec6257ed5ff4261a402b9ee",
				"dxcompiler.dll":  "442a995492579e1048cf1f05a86ab00f476c46b7f9d0996e588884040a543bbe",
				"dxil.dll":        "859b6d638c5ca3df39e9cab2a602cb0f63d0e63d750f84bb2a9ec9031319b73e",
			},
		},
		{
			Channel: Pip, Version: "1.30.0", Platform: Platform{"linux", "amd64"},
			Archive: "fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328",
			Files: map[string]string{
				"libonnxruntime.so.1.30.0":           "c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed",
				"libonnxruntime_providers_shared.so": "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
			},
		},
		{
			Channel: Pip, Version: "1.30.0", Platform: Platform{"linux", "arm64"},
			Archive: "6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83",
			Files: map[string]string{
				"libonnxruntime.so.1.30.0":           "8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789",
				"libonnxruntime_providers_shared.so": "3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88",
			},
		},
		{
			Channel: Pip, Version: "1.30.0", Platform: Platform{"darwin", "arm64"},
			Archive: "001ed726c9bd5e2bc92faade7d37d889e9606a350b7d5529f0227df2e3bb57fd",
			Files: map[string]string{
				"libonnxruntime.1.30.0.dylib": "b46713ea6a25a5227541c21001f6422c1ccdeaecc369aa026a61b752520325c3",
			},
		},
		{
			Channel: Pip, Version: "1.30.0", Platform: Platform{"windows", "amd64"},
			Archive: "f3501472571f1b1eee50e017851e7929f5ea37312d2d8c2494a19e8fc58b4a38",
			Files: map[string]string{
				"onnxruntime.dll":                  "e42c5c917207ff706530315177e39dca2539695a6a8d968a22225e34291b1f12",
				"onnxruntime_providers_shared.dll": "46b999f9d5cd9d284091407e9f50a262624e6a71265fc428a1dfbd42d149bd81",
			},
		},
		{
			Channel: Pip, Version: "1.30.0", Platform: Platform{"windows", "arm64"},
			Archive: "dc4c706f1935ebb62356e6a095b047859badd854482c40560888e95c328ed262",
			Files: map[string]string{
				"onnxruntime.dll":                  "73f0a1ed25a088da5dbc5f76af9c32f8b7dd88033715078b0c04632a9d11f745",
				"onnxruntime_providers_shared.dll": "6e04dc215c5d8202b3defb97ea1e21c3e9f6a5375ad60a6057fef66627cd1459",
			},
		},
		{
			Channel: Module, Version: "1.24.1", Platform: Platform{"linux", "arm64"},
			Files: map[string]string{
				"libonnxruntime.so.1.24.1": "7954e8bdedb497f830c6a679e818d98399b7f4d81ade1126c3e0be74d28111ab",
			},
		},
		{
			Channel: Module, Version: "1.24.1", Platform: Platform{"darwin", "arm64"},
			Files: map[string]string{
				"libonnxruntime.1.24.1.dylib": "9626bbdd201fbed7e3addcbd9fc7e97ec4954c03afcf40a9883af50498bffb06",
			},
		},
		{
			Channel: Module, Version: "1.24.1", Platform: Platform{"windows", "amd64"},
			Files: map[string]string{
				"onnxruntime.dll": "8a1aad8d59d02a5337d4e3f5bbd1158c3f7bf84fe3b3f0052f957dd3e75a91cb",
			},
		},
	}
}

// findPin is the pin of a channel, version and platform among some.
func findPin(all []Pin, c Channel, version string, p Platform) (Pin, bool) {
	for _, pin := range all {
		if pin.Channel == c && pin.Version == version && pin.Platform == p {
			return pin, true
		}
	}
	return Pin{}, false
}

// pinOf is the pin whose library has a digest. The platform must be p, where p is not zero.
func pinOf(all []Pin, sha256 string, p Platform) (Pin, bool) {
	for _, pin := range all {
		if pin.library() == sha256 && (p == Platform{} || pin.Platform == p) {
			return pin, true
		}
	}
	return Pin{}, false
}
